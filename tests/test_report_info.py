"""Records and figures of the report, against plain recomputation and closed-form cases."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from autosearch.contracts import registry
from autosearch.contracts.trials import SCORED, Status, TrialRecord
from autosearch.metrics import pareto
from autosearch.report.analysis import (
    attainment,
    hypervolume_curve,
    parameter_importance,
    value_box,
)
from autosearch.report.info import artifact_path, study_info, view_data
from autosearch.report.recommended import recommended
from autosearch.spec.space import Space
from autosearch.storage.folder import StudyFolder
from autosearch.storage.trial_store import TrialStore

MakeStudy = Callable[..., StudyFolder]
BOTH = {"cost": "minimize", "quality": "maximize"}

values = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda p: [p[0] / 4, p[1] / 8]),
    min_size=1,
    max_size=14,
)


@pytest.fixture(scope="module")
def folder(make_study: MakeStudy, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return make_study(tmp_path_factory.mktemp("info") / "mine", 60)


def test_columns_say_what_the_records_say(folder: StudyFolder) -> None:
    info, records = study_info(folder), folder.trials.records()
    trials = info["trials"]
    assert len(records) == 60
    for i, record in enumerate(records):
        assert trials["number"][i] == record.number
        assert info["statuses"][trials["status"][i]] == record.status
        for name, value in {**record.measured, **record.values}.items():
            assert trials["figures"][name][i] == pytest.approx(value, rel=1e-5)
        for name, value in record.params.items():
            assert trials["params"][name][i] == ("none" if value is None else value)
        if record.status not in SCORED:
            assert trials["figures"]["rwap"][i] is None
            assert info["reasons"][str(record.number)] == record.reason
    columns = [c for part in ("params", "canonical", "figures") for c in trials[part].values()]
    assert {len(column) for column in columns} == {60}
    assert sum(info["counts"].values()) == 60
    assert info["front"] == _front_by_comparison(records)


def test_the_trial_to_take_is_named_unless_it_is_by_chance(folder: StudyFolder) -> None:
    info, records = study_info(folder), folder.trials.records()
    assert info["doubt"] is not None and info["recommended"] is None
    known = registry.objectives()
    objectives = registry.resolve_objectives(folder.load_spec(), known)
    found = recommended(folder, records, objectives, known, None)
    best = max((r for r in records if r.status in SCORED), key=lambda r: r.values["rwap"])
    assert found is not None and found["number"] == best.number
    assert found["reasons"][0].startswith("best validation rwap of all")
    assert recommended(folder, [], objectives, known, None) is None
    # Made anomalies tell trials apart, too: then the page names what the command names.
    assert recommended(folder, records, objectives, known, "by chance") is None
    both = {"rwap_synthetic": 0.5, "rwap_real": 0.5}
    made = [replace(r, measured={**r.measured, **both}) for r in records]
    named = recommended(folder, made, objectives, known, "by chance")
    assert named is not None and "rwap_synthetic" in named["reasons"][0]


def test_the_record_is_strict_json(folder: StudyFolder) -> None:
    info = study_info(folder)
    assert json.loads(json.dumps(info, allow_nan=False)) == info


def test_what_must_not_be_overlooked_is_said(folder: StudyFolder) -> None:
    info = study_info(folder)
    assert any("Random weights" in text for text in info["warnings"])
    assert any("Synthetic" in text for text in info["warnings"])
    header = dict(info["header"])
    assert header["Dataset"] == "demo / brick"
    assert "1 crack + 5 good" in header["Split"]
    assert "000000000000" in header["Weights"]
    assert info["objectives"][0]["unit"] == "GFLOP"


def test_a_study_without_trials_and_one_without_results(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrialStore, "records", lambda self: [])
    empty = study_info(folder)
    assert empty["front"] == [] and empty["hypervolume"] == [] and empty["importance"] == {}
    failed = [TrialRecord(0, Status.FAILED, {"width": 1.0}, reason="no")]
    monkeypatch.setattr(TrialStore, "records", lambda self: failed)
    info = study_info(folder)
    assert info["hypervolume"] == [None] and info["trials"]["figures"]["rwap"] == [None]
    data = view_data([info, {**info, "name": "other"}])
    assert data["comparison"] == [{"studies": [0, 1], "attainment": None, "hypervolume": None}]


def test_values_that_are_not_finite_are_missing(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = TrialRecord(0, Status.INFEASIBLE, {}, measured={"gflops": math.nan, "ap": math.inf})
    monkeypatch.setattr(TrialStore, "records", lambda self: [record])
    figures = study_info(folder)["trials"]["figures"]
    assert figures["gflops"] == [None] and figures["ap"] == [None]


def test_test_figures_are_taken_over(make_study: MakeStudy, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "tested", 3)
    part = {"metrics": {"rwap": 0.12345678, "aupro": None}, "intervals": {"rwap": [0.1, 0.2]}}
    short = {"metrics": {"rwap": 0.123457, "aupro": None}, "intervals": {"rwap": [0.1, 0.2]}}
    drawn = {"level": 0.95, "seed": 1, "unit": "images, within their types", "too_few": ["crack"]}
    others = {"data": {"images": 9, "sha256": "x"}, "bootstrap": drawn}
    types = {"crack": {"images": 2, **part, "intervals": {"rwap": None}}}
    folder.files.write_test(
        0, {**part, **others, "types": types, "validation": {"reproduced": False}}
    )
    folder.files.write_test(1, {"metrics": {}})
    told = study_info(folder)["tests"]
    crack = {"images": 2, "metrics": short["metrics"], "intervals": {}}
    whole = {"types": {"crack": crack}, "images": 9, "level": 0.95, "reproduced": False}
    whole |= {"unit": drawn["unit"], "too_few": ["crack"], "fit": "train", "fitted_on": None}
    assert told["0"] == {**short, **whole}
    assert told["1"]["metrics"] == {} and told["1"]["reproduced"]


@given(values)
def test_the_hypervolume_of_every_prefix(rows: list[list[float]]) -> None:
    directions = ["minimize", "maximize"]
    worst, best = value_box(rows, directions)
    curve = hypervolume_curve(rows, (worst, best))
    span = np.abs(worst - best)
    if span.all():
        for end, share in enumerate(curve, start=1):
            whole = pareto.hypervolume(rows[:end], worst, directions)
            assert share == pytest.approx(whole / span.prod())
    assert curve == sorted(curve)
    assert curve[0] >= 0 and curve[-1] <= 1


def test_hypervolume_in_numbers() -> None:
    # Costs run from 0 to 1, so the box ends at 1.1; quality the same from 1 down to -0.1.
    rows = [[1.0, 1.0], [math.nan, math.nan], [0.5, 0.5], [0.0, 0.0], [0.6, 0.4]]
    box = value_box(rows, ["minimize", "maximize"])
    unit = 1.1**2
    expected = [0.1 * 1.1, 0.1 * 1.1, 0.11 + 0.5 * 0.6, 0.11 + 0.3 + 0.5 * 0.1, 0.46]
    assert hypervolume_curve(rows, box) == pytest.approx([share / unit for share in expected])


def test_importance_finds_the_parameter_that_decides() -> None:
    space = Space.parse({"a": {"int": [0, 9]}, "b": {"int": [0, 9]}, "c": [1, 2, 3]})
    draw = np.random.default_rng(0)
    records = []
    for number in range(200):
        a, b, c = (int(draw.integers(10)), int(draw.integers(10)), int(draw.integers(1, 4)))
        found = {"cost": float(b), "quality": a + 0.01 * c}
        records.append(TrialRecord(number, Status.COMPLETE, {"a": a, "b": b, "c": c}, {}, found))
    shares = parameter_importance(records, space, BOTH)
    assert {name: next(iter(by)) for name, by in shares.items()} == {"cost": "b", "quality": "a"}
    assert shares["quality"]["a"] > 0.8
    assert sum(shares["cost"].values()) == pytest.approx(1)
    assert shares == parameter_importance(records, space, BOTH)
    assert parameter_importance(records[:9], space, BOTH) == {}


def test_importance_counts_parameters_that_exist_under_a_condition() -> None:
    space = Space.parse({"on": [True, False], "size": {"int": [1, 9], "when": {"on": True}}})
    records = []
    for number, (on, size) in enumerate(product([True, False], range(1, 10))):
        params = {"on": on, "size": size} if on else {"on": on}
        found = {"cost": 1.0, "quality": float(size if on else 0)}
        records.append(TrialRecord(number, Status.COMPLETE, params, {}, found))
    assert parameter_importance(records * 3, space, BOTH)["quality"]["size"] > 0


@given(st.lists(values, min_size=1, max_size=4))
def test_attainment_against_a_search_at_every_budget(studies: list[list[list[float]]]) -> None:
    bands = attainment(studies, list(BOTH.values()))
    assert bands["x"] == sorted(set(bands["x"]))
    for place, budget in enumerate(bands["x"]):
        reached = sorted(
            (max((q for c, q in rows if c <= budget), default=-math.inf) for rows in studies),
            reverse=True,
        )
        for name, expected in {
            "best": reached[0],
            "median": reached[len(reached) // 2],
            "worst": reached[-1],
        }.items():
            assert bands[name][place] == (expected if math.isfinite(expected) else None)


def test_attainment_where_the_first_objective_is_to_be_high() -> None:
    bands = attainment([[[3, 1], [2, 0]], [[2, 5]]], ["maximize", "minimize"])
    assert bands == {"x": [3, 2], "best": [1, 0], "median": [None, 5], "worst": [None, 5]}


def test_studies_of_one_space_are_compared(
    folder: StudyFolder, make_study: MakeStudy, tmp_path: Path
) -> None:
    others = [make_study(tmp_path / "mine", 40, seed=1)]
    others.append(make_study(tmp_path / "fixed", 10, space="autopatch_fixed"))
    infos = [study_info(one) for one in (folder, *others)]
    data = view_data(infos)
    assert [study["name"] for study in data["studies"]] == [
        str(folder.path),
        str(tmp_path / "mine"),
        "fixed",
    ]
    (group,) = data["comparison"]
    assert group["studies"] == [0, 1]
    bands, volume = group["attainment"], group["hypervolume"]
    assert bands["names"] == ["gflops", "rwap"]
    rows = [r for one in (folder, others[0]) for r in one.trials.records() if r.status in SCORED]
    assert bands["best"][-1] == pytest.approx(max(r.values["rwap"] for r in rows), rel=1e-5)
    assert len(volume["mean"]) == 40 and [len(c) for c in volume["curves"]] == [60, 40]
    both = [curve[39] for curve in volume["curves"]]
    assert volume["mean"][-1] == pytest.approx(sum(both) / 2, rel=1e-5)
    assert (volume["low"][-1], volume["high"][-1]) == (min(both), max(both))


def test_only_known_files_of_a_trial_are_found(make_study: MakeStudy, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "mine", 8)
    secret = tmp_path / "maps.jpg"
    secret.write_text("secret")
    best = folder.files.path(study_info(folder)["front"][0])
    number = int(best.name)
    assert artifact_path(folder, number, "maps.jpg") == best / "maps.jpg"
    (best / "test.json").write_text("{}")
    for name in (
        "test.json",
        "../../spec.yaml",
        "..",
        "",
        str(secret),
        "maps.jpg\0",
        "./maps.jpg",
    ):
        assert artifact_path(folder, number, name) is None
    assert artifact_path(folder, -1, "maps.jpg") is None
    assert artifact_path(folder, 10**9, "maps.jpg") is None
    (best / "maps.jpg").unlink()
    (best / "maps.jpg").symlink_to(secret)
    assert artifact_path(folder, number, "maps.jpg") is None
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "maps.jpg").write_text("secret")
    (folder.path / "trials" / "77").symlink_to(outside)
    assert artifact_path(folder, 77, "maps.jpg") is None


def test_a_study_reached_through_a_link_shows_its_files(
    folder: StudyFolder, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(folder.path)
    number = study_info(folder)["front"][0]
    assert artifact_path(StudyFolder(tmp_path / "link"), number, "maps.jpg") is not None


def _front_by_comparison(records: list[TrialRecord]) -> list[int]:
    scored = [r for r in records if r.status in SCORED]

    def beaten(one: TrialRecord) -> bool:
        a, b = one.values["gflops"], one.values["rwap"]
        others = ((r.values["gflops"], r.values["rwap"]) for r in scored)
        return any(x <= a and y >= b and (x, y) != (a, b) for x, y in others)

    kept = sorted((r for r in scored if not beaten(r)), key=lambda r: r.values["gflops"])
    return [r.number for r in kept]
