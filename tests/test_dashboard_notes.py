"""Notes written through the dashboard: by its own page alone, and into no other file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_dashboard import HERE, PORT, snapshot

from autosearch.report.dashboard import make_app
from autosearch.report.live import Library
from autosearch.report.noting import TOKEN_HEADER
from autosearch.storage.folder import StudyFolder
from autosearch.storage.notes import NOTES

OWN = {**HERE, "Origin": f"http://127.0.0.1:{PORT}"}


@pytest.fixture(scope="module")
def written(
    make_study: Callable[..., StudyFolder], tmp_path_factory: pytest.TempPathFactory
) -> StudyFolder:
    """A study of 20 trials that no test changes."""
    return make_study(tmp_path_factory.mktemp("written") / "first", 20)


@pytest.fixture
def results(written: StudyFolder, tmp_path: Path) -> Path:
    shutil.copytree(written.path, tmp_path / "results" / "first")
    return tmp_path / "results"


@pytest.fixture
def client(results: Path) -> Any:
    return make_app(Library(results), PORT).server.test_client()


@pytest.fixture
def token(client: Any) -> str:
    """What the page was given at the start."""
    found: list[str] = []

    def look(part: Any) -> None:
        if isinstance(part, dict):
            found.extend(value for key, value in part.items() if key == "data-token")
            part = [*part.values()]
        for inner in part if isinstance(part, list) else []:
            look(inner)

    look(client.get("/_dash-layout", headers=HERE).get_json())
    assert len(found) == 1 and len(found[0]) > 40
    return found[0]


def send(client: Any, token: str | None, asked: object, **headers: str | None) -> Any:
    given = {**OWN, TOKEN_HEADER: token, "Content-Type": "application/json", **headers}
    given = {key: value for key, value in given.items() if value is not None}
    content = asked if isinstance(asked, bytes) else json.dumps(asked)
    return client.post("/note", headers=given, data=content)


def note(**changes: object) -> dict[str, object]:
    return {"study": "first", "number": 3, "text": "mine", **changes}


def test_the_page_has_a_note_kept_and_taken_away(client: Any, token: str, results: Path) -> None:
    before = snapshot(results)
    answer = send(client, token, note(text=" mine <b>\n"))
    assert answer.status_code == 200 and answer.get_json()["text"] == "mine <b>"
    folder = StudyFolder(results / "first")
    assert {n: one.model_dump() for n, one in folder.load_notes().items()} == {3: answer.json}
    left = {path: told for path, told in snapshot(results).items() if path.name != NOTES}
    folders = (results / "first",)
    assert {p: t for p, t in left.items() if p not in folders} == {
        p: t for p, t in before.items() if p not in folders
    }
    answer = send(client, token, note(text=""))
    assert answer.status_code == 200 and answer.get_json() is None
    assert folder.load_notes() == {}


@pytest.mark.parametrize(
    "headers",
    [
        {TOKEN_HEADER: None},
        {TOKEN_HEADER: ""},
        {TOKEN_HEADER: "a" * 43},
        {TOKEN_HEADER: "\xe4"},
        {"Origin": None},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": f"https://127.0.0.1:{PORT}"},
        {"Host": f"evil.example:{PORT}"},
    ],
)
def test_nobody_else_can_have_one_written(
    client: Any, token: str, results: Path, headers: dict[str, str | None]
) -> None:
    before = snapshot(results)
    answer = send(client, **{"token": token, "asked": note(), **headers})
    assert answer.status_code == 403 and answer.data.count(b"\n") == 1
    assert snapshot(results) == before


def test_the_token_is_another_at_every_start(client: Any, token: str, results: Path) -> None:
    other = make_app(Library(results), PORT).server.test_client()
    answer = send(other, token, note())
    assert answer.status_code == 403 and b"load it anew" in answer.data


@pytest.mark.parametrize(
    "asked",
    [b"", b"{", b"[" * 9000, None, [], "x", {}, note(more=1), note(number="3"), note(number=True),
     note(number=3.0), note(text=None), note(text=["x"]), note(study=None)],
    ids=range(14),
)  # fmt: skip
def test_what_is_no_note_is_refused(client: Any, token: str, results: Path, asked: object) -> None:
    before = snapshot(results)
    answer = send(client, token, asked)
    assert answer.status_code == 400 and answer.data.count(b"\n") == 1
    assert snapshot(results) == before


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"study": "../results/first"}, 404),
        ({"study": "/etc"}, 404),
        ({"study": ""}, 404),
        ({"number": 20}, 404),
        ({"number": -1}, 404),
        ({"number": 10**30}, 404),
        ({"text": "a" * 2001}, 409),
        ({"text": "a\x07"}, 409),
        ({"text": "\ud800"}, 409),
        ({"text": "a" * 40_000}, 413),
    ],
)
def test_only_trials_have_notes_and_only_plain_ones(
    client: Any, token: str, results: Path, changes: dict[str, object], code: int
) -> None:
    before = snapshot(results)
    answer = send(client, token, note(**changes))
    assert answer.status_code == code and answer.data.count(b"\n") == 1
    assert snapshot(results) == before


def test_other_ways_to_send_it_are_refused(client: Any, token: str, results: Path) -> None:
    before = snapshot(results)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert send(client, token, note(), **{"Content-Type": kind}).status_code == 415
    for method in ("get", "put", "patch", "delete"):
        headers = {**OWN, TOKEN_HEADER: token}
        assert getattr(client, method)("/note", headers=headers).status_code >= 400
    assert snapshot(results) == before
