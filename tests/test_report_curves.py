"""Curves of a training: what is read of a file, and what of that a page holds."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from autosearch.contracts.trials import Outcome, Status
from autosearch.report import page as report_page
from autosearch.report.curves import read_curves
from autosearch.report.info import study_info
from autosearch.report.page import write_report
from autosearch.storage.folder import StudyFolder

MakeStudy = Callable[..., StudyFolder]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)
numbers = st.lists(st.none() | st.floats() | st.integers(-(10**400), 10**400), max_size=500)
panels = st.fixed_dictionaries(
    {"title": st.text(), "series": st.dictionaries(st.text(max_size=9), numbers, max_size=2)}
)
curve_files = st.fixed_dictionaries({"x": st.text(), "panels": st.lists(panels, max_size=2)})


def curves_file(path: Path, *numbers: list[float | None]) -> Path:
    series = {f"series {i}": list(one) for i, one in enumerate(numbers)}
    curves = {"x": "epoch", "panels": [{"title": "loss", "series": series}]}
    path.write_text(json.dumps(curves))
    return path


def test_short_curves_are_read_as_they_are(tmp_path: Path) -> None:
    path = curves_file(tmp_path / "curves.json", [1, 0.123456, None], [math.nan, -math.inf, 1e308])
    series = {"series 0": [1, 0.1235, None], "series 1": [None, None, 1e308]}
    assert read_curves(path) == {
        "x": "epoch",
        "steps": 3,
        "at": [1, 2, 3],
        "panels": [{"title": "loss", "series": series}],
    }


@pytest.mark.parametrize("steps", [199, 200, 201, 640, 5000])
def test_long_curves_keep_their_course(tmp_path: Path, steps: int) -> None:
    rare = [float(i) if i % 50 == 0 else None for i in range(1, steps + 1)]
    curves = read_curves(
        curves_file(tmp_path / "curves.json", list(range(1, steps + 1)), [*rare[:-1], math.nan])
    )
    assert curves is not None
    at, series = curves["at"], curves["panels"][0]["series"]
    assert curves["steps"] == steps and len(at) == min(steps, 200)
    assert (at[0], at[-1]) == (1, steps) and np.ptp(np.diff(at)) <= 1
    assert series["series 0"] == at
    # Each multiple of 50 stands at the next step that is kept, if no later one does.
    places = {min(step for step in at if step >= i): i for i in range(50, steps, 50)}
    assert [n for n in series["series 1"] if n is not None] == list(places.values())
    assert {step for step, n in zip(at, series["series 1"], strict=True) if n} == set(places)


ONE = {"title": "loss", "series": {"a": [1.0]}}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"{}", b"{", b"\xff\xfe\x00", b"[" * 100_000,
        {"x": "epoch"}, {"panels": [ONE]}, {"x": 1, "panels": [ONE]}, {"x": "epoch", "panels": []},
        {"x": "epoch", "panels": {"loss": ONE}}, {"x": "epoch", "panels": [ONE] * 21},
        {"x": "epoch", "panels": [{"title": "loss", "series": {"a": []}}]},
        {"x": "e" * 201, "panels": [ONE]}, {"x": "\ud800", "panels": [ONE]},
        *({"x": "epoch", "panels": [ONE, panel]} for panel in [
            None, {"series": {"a": [1.0]}}, {**ONE, "title": None}, {**ONE, "series": [1.0]},
            {**ONE, "series": {}}, {**ONE, "series": {"a": 1.0}}, {**ONE, "series": {"a": []}},
            {**ONE, "series": {"a": [1.0, 2.0]}}, {**ONE, "series": {"a": ["1"]}},
            {**ONE, "series": {"a": [True]}}, {**ONE, "series": {"a": [[1.0]]}},
            {**ONE, "series": {"a\udc80": [1.0]}},
            {**ONE, "series": {str(i): [1.0] for i in range(21)}},
        ]),
    ],
)  # fmt: skip
def test_other_files_are_no_curves(tmp_path: Path, content: object) -> None:
    path = tmp_path / "curves.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert read_curves(path) is None


def test_huge_and_missing_files_are_no_curves(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "missing.json") is None
    path = curves_file(tmp_path / "curves.json", [0.5] * 1000)
    assert read_curves(path) is not None
    path.write_text(path.read_text() + " " * 1_000_000)
    assert read_curves(path) is None


@settings(deadline=None)
@given(content=json_values | curve_files)
def test_whatever_stands_in_a_file_is_curves_that_can_be_drawn_or_none(
    content: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    curves = read_curves(path)
    if curves is None:
        return
    json.dumps(curves, allow_nan=False, ensure_ascii=False).encode()
    for panel in curves["panels"]:
        for kept in panel["series"].values():
            assert len(kept) == len(curves["at"]) <= 200


def leave(folder: StudyFolder, number: int, content: bytes) -> None:
    """Put curves into a trial's folder."""
    artifacts = {"curves.json": content}
    folder.files.write_outcome(number, Outcome(Status.COMPLETE, artifacts=artifacts))


def test_a_page_holds_curves_of_the_fronts_first(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [make_study(tmp_path / name, 30, seed) for seed, name in enumerate("ab")]
    curves = {"x": "epoch", "panels": [{"title": "loss", "series": {"a": [0.25] * 9}}]}
    for folder in folders:
        for number in range(30):
            leave(folder, number, json.dumps(curves).encode())
    infos = [study_info(folder) for folder in folders]

    def kept() -> dict[str, set[int]]:
        found = report_page._artifacts(folders, infos)
        return {
            name: {number for number, files in trials.items() if "curves.json" in files}
            for name, trials in found.items()
        }

    assert kept() == {"a": set(range(30)), "b": set(range(30))}
    fronts = {info["name"]: set(info["front"]) for info in infos}
    size = len(report_page._json(read_curves(folders[0].files.path(0) / "curves.json")))
    expected = sum(map(len, fronts.values())) + 10
    monkeypatch.setattr(report_page, "_CURVES", expected * size)
    found = kept()
    assert sum(map(len, found.values())) == expected
    for name, numbers in found.items():
        rest = sorted(set(range(30)) - fronts[name])
        assert fronts[name] < numbers, "all of the front, and some others"
        assert numbers - fronts[name] == set(rest[: len(numbers - fronts[name])])


def test_curves_of_another_form_are_left_out(
    browser: Any, make_study: MakeStudy, tmp_path: Path
) -> None:
    folder = make_study(tmp_path / "other", 5)
    good = json.dumps({"x": "epoch", "panels": [ONE]}).encode()
    for number, content in enumerate([b"{", b"[1]", b"\xff", good + b" " * 1_000_000, b""]):
        leave(folder, number, content)
    file = write_report([folder], tmp_path / "report.html")
    assert file.stat().st_size < 6_000_000
    browser.get(file.as_uri())
    end = time.monotonic() + 20
    while "No curves that this page can draw" not in (
        text := browser.find_element("css selector", ".details").text
    ):
        assert time.monotonic() < end, text
        time.sleep(0.05)
    assert "/curves.json" in text and browser.get_log("browser") == []
