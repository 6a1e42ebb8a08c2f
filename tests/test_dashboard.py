"""The dashboard's server: what is given out, to whom, and what is refused."""

import json
import math
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from autosearch.errors import ConfigError, StudyError
from autosearch.report.dashboard import make_app, serve
from autosearch.report.live import Library
from autosearch.storage.folder import StudyFolder

PORT = 8050
HERE = {"Host": f"127.0.0.1:{PORT}"}


@pytest.fixture(scope="module")
def written(
    make_study: Callable[..., StudyFolder], tmp_path_factory: pytest.TempPathFactory
) -> StudyFolder:
    """A study of 20 trials that no test changes."""
    return make_study(tmp_path_factory.mktemp("written") / "first", 20)


@pytest.fixture
def results(written: StudyFolder, tmp_path: Path) -> Path:
    """A folder with one study, `first`, which a test may change."""
    shutil.copytree(written.path, tmp_path / "results" / "first")
    return tmp_path / "results"


def get(client: Any, path: str) -> Any:
    return client.get(path, headers=HERE)


def ask(client: Any, **asked: str | None) -> Any:
    given = {key: value for key, value in asked.items() if value is not None}
    return client.get("/artifact", query_string=given, headers=HERE)


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    files = {path: path.stat() for path in folder.rglob("*")}
    return {path: (found.st_size, found.st_mtime_ns) for path, found in files.items()}


def put(client: Any, content: str | bytes) -> Any:
    """The answer to a question in JSON."""
    kind = "application/json"
    return client.post("/_dash-update-component", headers=HERE, data=content, content_type=kind)


def part(name: str, prop: str = "data", value: object = None) -> dict[str, object]:
    return {"id": name, "property": prop, "value": value}


def asked(**changes: object) -> dict[str, Any]:
    """What the page asks, with some of it changed."""
    names = ("listing", "chosen", "clock", "data", "seen")
    return {
        "output": "..listing.data...chosen.data...clock.data...data.data...seen.data..",
        "outputs": [{"id": name, "property": "data"} for name in names],
        "inputs": [part("tick", "n_intervals", 1), part("chosen")],
        "state": [part("seen")],
        "changedPropIds": ["tick.n_intervals"],
        **changes,
    }


def choosing(value: object) -> dict[str, Any]:
    return asked(inputs=[part("tick", "n_intervals", 1), part("chosen", value=value)])


QUESTIONS: dict[str, object] = {
    "nothing": b"",
    "half of one": json.dumps(asked()).encode()[:99],
    "no text": b"\xff\xfe{",
    "nested": b"[" * 100_000,
    "a number of many digits": b'{"output": ' + b"9" * 9000 + b"}",
    "null": None,
    "a list": [asked()],
    "text": "output",
    "an empty one": {},
    "no inputs": asked(inputs=[]),
    "one input": asked(inputs=[part("chosen")]),
    "inputs in words": asked(inputs="tick"),
    "inputs without names": asked(inputs=[{}, {}]),
    "inputs in another order": asked(inputs=[part("chosen"), part("tick", "n_intervals")]),
    "another property": asked(inputs=[part("tick", "interval"), part("chosen")]),
    "no state": asked(state=[]),
    "a number as state": asked(state=3),
    "another answer": asked(output="view.children"),
    "a number as answer": asked(output=3),
    "a list as answer": asked(output=["listing.data"]),
    "no outputs": asked(outputs=None),
    "fewer outputs": asked(outputs=[part("listing")]),
    "outputs in words": asked(outputs=["listing"] * 5),
    "a number changed": asked(changedPropIds=3),
    "a list changed": asked(changedPropIds=[["tick"]]),
    "a number chosen": choosing(3),
    "text chosen": choosing("first"),
    "true chosen": choosing(True),
    "numbers chosen": choosing([1]),
    "lists chosen": choosing([["first"]]),
    "a mapping chosen": choosing({"first": 1}),
    "NaN chosen": choosing([math.nan]),
    "one chosen often": choosing(["first"] * 10_000),
    "a number seen": asked(state=[part("seen", value=3)]),
    "a list seen": asked(state=[part("seen", value=[["a", "b"]])]),
    "numbers seen": asked(state=[part("seen", value={"listing": 3})]),
}
PLACES: list[tuple[str | int, ...]] = [
    *((key,) for key in asked()),
    *(("inputs", i, key) for i in range(2) for key in ("id", "property", "value")),
    *(("state", 0, key) for key in ("id", "property", "value")),
    ("outputs", 0),
    ("outputs", 4, "id"),
    ("changedPropIds", 0),
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.just("first"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


class TestServer:
    @pytest.fixture
    def client(self, results: Path) -> Any:
        return make_app(Library(results), PORT).server.test_client()

    @pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}"])
    def test_this_machine_is_answered(self, client: Any, host: str) -> None:
        assert client.get("/", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1:81", "localhost", "", "["]
    )
    @pytest.mark.parametrize("path", ["/", "/artifact", "/_dash-layout", "/nothing"])
    def test_other_hosts_are_refused(self, client: Any, host: str, path: str) -> None:
        assert client.get(path, headers={"Host": host}).status_code in {400, 403}

    def test_pages_of_other_hosts_are_refused(self, client: Any) -> None:
        for origin in ("http://evil.example", f"http://evil.example:{PORT}", "null"):
            headers = {**HERE, "Origin": origin}
            answer = client.post("/_dash-update-component", headers=headers, json={})
            assert answer.status_code == 403

    @pytest.mark.parametrize(
        "path", ["/", "/plotly.js", "/nothing", "/artifact", "/assets/view.js"]
    )
    def test_every_answer_is_guarded(self, client: Any, path: str) -> None:
        headers = get(client, path).headers
        policy = dict(
            part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in policy["script-src"] and "http" not in str(policy)
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"

    def test_files_of_trials_are_given_out_as_what_they_are(
        self, client: Any, results: Path
    ) -> None:
        trials = results / "first" / "trials"
        for name, kind in [("maps.jpg", "image/jpeg"), ("traceback.txt", "text/plain")]:
            path = next(trials.glob(f"*/{name}"))
            answer = ask(client, study="first", number=path.parent.name, name=name)
            assert answer.status_code == 200 and answer.data == path.read_bytes()
            assert answer.mimetype == kind

    def test_curves_are_given_out_as_they_are_drawn(self, client: Any, results: Path) -> None:
        folder = results / "first" / "trials" / "0"
        folder.mkdir(parents=True, exist_ok=True)
        series = {"b": [math.nan, *range(1, 1000)], "a": [0.123456] * 1000}
        (folder / "curves.json").write_text(
            json.dumps({"x": "epoch", "panels": [{"title": "loss", "series": series}]})
        )
        answer = ask(client, study="first", number="0", name="curves.json")
        assert answer.status_code == 200 and answer.mimetype == "application/json"
        assert b"NaN" not in answer.data
        (panel,) = answer.get_json()["panels"]
        assert list(panel["series"]) == ["b", "a"] and set(panel["series"]["a"]) == {0.1235}
        assert len(panel["series"]["b"]) == 200

    @pytest.mark.parametrize("content", ["{", "[1]", " " * 2_000_000])
    def test_curves_of_another_form_are_not_given_out(
        self, client: Any, results: Path, content: str
    ) -> None:
        folder = results / "first" / "trials" / "0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "curves.json").write_text(content)
        assert ask(client, study="first", number="0", name="curves.json").status_code == 404

    @pytest.mark.parametrize(
        ("study", "number", "name"),
        [
            ("first", "0", "../../spec.yaml"),
            ("first", "0", "..%2f..%2fspec.yaml"),
            ("first", "0", "/etc/passwd"),
            ("first", "0", "maps.jpg/../../../spec.yaml"),
            ("first", "0", "maps.jpg\0"),
            ("first", "..", "spec.yaml"),
            ("first", "-1", "maps.jpg"),
            ("first", "999999", "maps.jpg"),
            ("first", "0x0", "maps.jpg"),
            ("../results/first", "0", "maps.jpg"),
            ("/etc", "0", "maps.jpg"),
            (".", "0", "maps.jpg"),
            ("", "0", "maps.jpg"),
            ("<script>", "0", "maps.jpg"),
            (None, None, None),
        ],
    )
    def test_no_request_leads_out_of_a_trials_folder(
        self, client: Any, results: Path, study: str | None, number: str | None, name: str | None
    ) -> None:
        (results / "first" / "trials" / "0").mkdir(parents=True, exist_ok=True)
        (results / "first" / "trials" / "0" / "maps.jpg").write_bytes(b"map")
        assert ask(client, study="first", number="0", name="maps.jpg").status_code == 200
        assert ask(client, study=study, number=number, name=name).status_code == 404

    def test_links_out_of_a_trials_folder_are_not_followed(
        self, client: Any, results: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "secret.txt").write_text("secret")
        trials = results / "first" / "trials"
        (trials / "900").mkdir(parents=True)
        (trials / "900" / "traceback.txt").symlink_to(tmp_path / "secret.txt")
        (tmp_path / "901").mkdir()
        (tmp_path / "901" / "traceback.txt").write_text("secret")
        (trials / "901").symlink_to(tmp_path / "901")
        for number in ("900", "901"):
            answer = ask(client, study="first", number=number, name="traceback.txt")
            assert answer.status_code == 404 and b"secret" not in answer.data

    def test_nothing_but_reading_has_an_address(self, results: Path) -> None:
        rules = make_app(Library(results), PORT).server.url_map.iter_rules()
        reading = {"GET", "HEAD", "OPTIONS"}
        others = {rule.rule: set(rule.methods or ()) - reading for rule in rules}
        # Dash's way to ask; what answers it is `refresh`, which only reads. And notes on trials.
        assert {rule: methods for rule, methods in others.items() if methods} == {
            "/_dash-update-component": {"POST"},
            "/note": {"POST"},
        }

    def test_pages_of_others_can_ask_nothing_without_being_asked_back(self, client: Any) -> None:
        # What a page may send to another host at will is a form or plain text.
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            answer = client.post(
                "/_dash-update-component", headers=HERE, data=b"{}", content_type=kind
            )
            assert answer.status_code == 415
            assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]

    def test_a_question_of_any_length_is_not_read(self, client: Any) -> None:
        assert put(client, b" " * 2_000_000).status_code == 413

    def test_the_pages_own_question_is_answered(self, client: Any) -> None:
        answer = put(client, json.dumps(asked()).encode())
        assert answer.status_code == 200
        assert [one["name"] for one in answer.json["response"]["listing"]["data"]["studies"]] == [
            "first"
        ]

    @pytest.mark.parametrize("case", QUESTIONS)
    def test_another_question_is_refused_in_one_line(
        self, client: Any, caplog: pytest.LogCaptureFixture, case: str
    ) -> None:
        content = QUESTIONS[case]
        answer = put(client, content if isinstance(content, bytes) else json.dumps(content))
        assert answer.status_code == 400 and answer.mimetype == "text/plain"
        assert answer.data.startswith(b"400 Bad Request: ") and answer.data.count(b"\n") == 1
        assert not caplog.records

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.sampled_from(PLACES), ANYTHING)
    def test_no_question_brings_a_traceback(
        self, client: Any, caplog: pytest.LogCaptureFixture, place: tuple[str | int, ...],
        value: object,
    ) -> None:  # fmt: skip
        content: Any = asked()
        inner = content
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = value
        assert put(client, json.dumps(content)).status_code in {200, 400}
        assert not caplog.records

    @pytest.mark.parametrize(
        "path",
        ["/artifact?study=first&number=" + "1" * 300 + "&name=maps.jpg",
         "/artifact?study=first&number=" + "1" * 9000 + "&name=maps.jpg",
         "/artifact?study=%00&number=0&name=maps.jpg", "/artifact?study=%ff&number=0&name=%ff",
         "/artifact?study=first&number=0&name=maps.jpg%00", "/assets/%00", "/assets/%ff",
         "/assets/" + "a" * 5000, "/_dash-component-suites/dash/%00",
         "/_dash-component-suites/%00/%00", "/_dash-component-suites/os/path.py",
         "/_dash-component-suites/dash/" + "a" * 5000, "/static/x", "/static/%00"],
    )  # fmt: skip
    def test_an_odd_address_is_refused_in_one_line(
        self, client: Any, caplog: pytest.LogCaptureFixture, path: str
    ) -> None:
        answer = get(client, path)
        assert answer.status_code == 404 and answer.mimetype == "text/plain"
        assert answer.data.startswith(b"404 Not Found: ") and answer.data.count(b"\n") == 1
        assert not caplog.records

    def test_nothing_is_written_whatever_is_asked(self, client: Any, results: Path) -> None:
        before = snapshot(results)
        paths = ("/", "/artifact", "/_dash-layout", "/_dash-update-component", "/nothing", "/note")
        for path in paths:
            for method in ("get", "post", "put", "delete", "patch"):
                answer = getattr(client, method)(path, headers=HERE, data=b"{}")
                assert (method == "get" and path != "/note") or answer.status_code >= 400
        assert snapshot(results) == before


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port: {port}"):
            serve(tmp_path, port)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such folder"):
        serve(tmp_path / "nothing")
