"""Studies that begin with configurations of earlier ones, and their values where they hold."""

import csv
import io
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from driving import complete, make_spec, open_driver, records

import autosearch
from autosearch import cli
from autosearch.contracts.registry import find_space
from autosearch.contracts.trials import Status, canonical_key
from autosearch.errors import ConfigError, StudyError
from autosearch.report.info import study_info
from autosearch.spec.reading import load_spec
from autosearch.storage.folder import StudyFolder
from autosearch.study.driver import StudyDriver
from autosearch.study.earlier import first_trials
from autosearch.study.inputs import load_inputs

NARROW = {"level3.patch_size": [1, 3], "coreset_ratio": [0.25, 1.0]}
WIDE = {
    "level3.patch_size": {"int": [1, 5]},
    "coreset_ratio": [0.25, 0.5, 1.0],
    "num_neighbors": {"int": [1, 3]},
}
BEST_ONE, OTHER = {"level3.patch_size": 3}, {"level3.patch_size": 1}


def content(space: dict[str, Any], start: object, **changes: Any) -> dict[str, Any]:
    """A spec of PatchCore with random weights, whose trials take a moment."""
    plain: dict[str, Any] = {
        "study": {"runner": "patchcore", "seed": 3, "name": "new"},
        "space": space,
        "start": start,
        "objectives": ["gflops", "rwap"],
        "sampler": {"name": "random"},
        "dataset": {"image_size": 64},
        "backbone": {"weights": "random"},
        "resources": {"gpu": 0},
    }
    for key, value in changes.items():
        plain[key] = {**plain[key], **value} if isinstance(plain.get(key), dict) else value
    return plain


def searched(results: Path, trials: int, *given: Any, **changes: Any) -> autosearch.Study:
    spec = content(*given, **changes)
    return autosearch.search(spec, trials=trials, results=results, executor="local")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> autosearch.Study:
    """Three trials of a narrow space."""
    start = [{**BEST_ONE, "coreset_ratio": 1.0}, {**OTHER, "coreset_ratio": 1.0},
             {**OTHER, "coreset_ratio": 0.25}]  # fmt: skip
    results = tmp_path_factory.mktemp("old")
    study = searched(results, 3, NARROW, start, study={"name": "old"})
    assert study.counts["complete"] == 3
    return study


def begins(old: autosearch.Study | Path, **changes: Any) -> list[dict[str, Any]]:
    """What a study of the wide space would begin with."""
    path = old if isinstance(old, Path) else old.path
    start = {"from": [str(path)], **changes.pop("start", {})}
    space = changes.pop("space", WIDE)
    return first_trials(load_inputs(load_spec(content(space, start, **changes))))


def test_values_that_hold_are_taken_over_and_never_evaluated(
    old: autosearch.Study, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(old.path, tmp_path / "moved"))
    new = searched(tmp_path, 4, WIDE, {"from": [str(source)]})
    taken, fresh = new.trials[:3], new.trials[3]
    ways = [record.taken_from for record in taken]
    assert {path for path, _ in ways if path} == {str(source)}
    assert sorted(number for _, number in ways) == [0, 1, 2]
    for record in taken:
        before = old.trial(record.taken_from[1])
        assert record.status == Status.COMPLETE and record.values == before.values
        assert record.measured == before.measured and record.canonical == before.canonical
        assert record.params == before.params | {"num_neighbors": 1}
        assert record.seconds == before.seconds, "a second run would have taken another time"
        kept, copied = (study.files(r.number) for study, r in ((old, before), (new, record)))
        assert [p.read_bytes() for p in kept] == [p.read_bytes() for p in copied] != []
    assert fresh.taken_from is None and new.counts["complete"] == 4

    # All of it stands in the study now: the earlier one may be gone, and nothing is taken twice.
    shutil.rmtree(source)
    new.resume(trials=5, executor="local")
    assert new.trials[:4] == [*taken, fresh] and len(new.trials) == 5
    assert [record.taken_from for record in new.trials[3:]] == [None, None]
    figures = new.evaluate([taken[0].number], resamples=100)[taken[0].number]
    assert figures["validation"]["reproduced"]
    assert new.export(taken[0].number, formats=("torch",)).is_dir()


def test_what_was_taken_over_is_shown_as_such(
    old: autosearch.Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new = searched(tmp_path, 3, WIDE, {"from": [str(old.path)], "top": 1})
    best = max(old.trials, key=lambda record: record.values["rwap"])
    source = f"{old.path}, trial {best.number}"
    assert [record.source for record in new.trials] == [source, None, None]

    def printed(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["autosearch", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert not caught.value.code
        return capsys.readouterr().out

    line = f"1 trial taken over from {old.path}, not evaluated again"
    assert line in printed("show", str(new.path))
    # A path may be longer than the column that it is printed in.
    shown = "".join(printed("show", str(new.path), "--trial", "0").split())
    assert source.replace(" ", "") in shown
    (row,) = csv.DictReader(io.StringIO(printed("show", str(new.path), "--trial", "0", "--csv")))
    assert row["taken_from"] == source
    whole = json.loads(printed("show", str(new.path), "--trial", "0", "--json"))
    assert whole["trial"]["taken_from"] == [str(old.path), best.number]
    assert line in printed("resume", str(new.path), "--trials", "3", "--executor", "local")
    info = study_info(StudyFolder(new.path))
    assert info["reasons"] == {"0": f"taken over from {source}, not evaluated again"}
    assert ["Taken over", line] in info["header"]
    column = new.to_frame()["taken_from"]
    assert column[0] == source and column[1:].isna().all()


class TestWhatIsTaken:
    def test_is_best_first(self, old: autosearch.Study) -> None:
        assert len(begins(old)) == 3
        (found,) = begins(old, start={"top": 1})
        best = max(old.trials, key=lambda record: record.values["rwap"])
        assert found["from"] == [str(old.path), best.number]

    def test_follows_the_configurations_that_are_given(self, old: autosearch.Study) -> None:
        given = {"level3.patch_size": 5, "coreset_ratio": 0.5, "num_neighbors": 2}
        again = {**OTHER, "coreset_ratio": 1.0, "num_neighbors": 1}
        found = begins(old, start={"configurations": [given, {"num_neighbors": 3}, again]})
        assert [one["params"] for one in found[:3]] == [given, {"num_neighbors": 3}, again]
        assert ["key" in one for one in found] == [False, False, True, True, True]
        assert len(found) == 5, "one that is given is not taken a second time"

    def test_may_be_measured_then_and_an_objective_now(self, old: autosearch.Study) -> None:
        found = begins(old, objectives=["search_gflops", "rwap"])
        assert all(set(one["values"]) == {"search_gflops", "rwap"} for one in found)
        assert all("gflops" in one["measured"] for one in found)

    def test_keeps_to_constraints(self, old: autosearch.Study) -> None:
        bound = sorted(record.values["rwap"] for record in old.trials)[1]
        found = begins(old, constraints=[f"rwap >= {bound}"])
        assert sorted(one["status"] for one in found) == ["complete", "complete", "infeasible"]
        (broken,) = (one for one in found if one["status"] == "infeasible")
        assert broken["reason"].startswith("breaks rwap >= ") and broken["values"] == {}

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"study": {"seed": 4}}, "study.seed is 4, 3 there"),
            ({"study": {"repeats": 2}}, "study.repeats is 2, 1 there"),
            ({"dataset": {"image_size": 96}}, "dataset.image_size is 96, 64 there"),
            ({"dataset": {"prevalence": 0.5}}, "dataset.prevalence is 0.5, 0.01 there"),
            ({"dataset": {"category": "gravel"}}, "the data are others than there"),
            ({"backbone": {"weights": "auto"}}, "the weights are others than there"),
        ],
    )
    def test_is_evaluated_where_something_else_decides(
        self,
        old: autosearch.Study,
        changes: dict[str, Any],
        reason: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        found = begins(old, **changes)
        assert [set(one) for one in found] == [{"params"}] * 3
        assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
            f"{old.path}: its configurations are evaluated again: {reason}"
        ]

    def test_is_evaluated_where_an_objective_was_not_measured(self, old: autosearch.Study) -> None:
        assert all("key" not in one for one in begins(old, objectives=["gflops", "f1"]))
        assert all("key" not in one for one in begins(old, constraints=["f1 >= 0"]))

    def test_is_evaluated_by_another_version(self, old: autosearch.Study, tmp_path: Path) -> None:
        path = Path(shutil.copytree(old.path, tmp_path / "old"))
        meta = json.loads((path / "meta.json").read_text())
        (path / "meta.json").write_text(json.dumps(meta | {"autosearch": "0.0.1"}))
        assert all("key" not in one for one in begins(path))

    def test_is_what_was_measured_by_the_clock_of_this_machine_alone(
        self, old: autosearch.Study, tmp_path: Path
    ) -> None:
        objectives = {"objectives": ["latency_ms", "rwap"]}
        path = tmp_path / "timed"
        spec = content(NARROW, [], study={"name": "timed"}, **objectives)
        autosearch.search(spec, trials=1, results=tmp_path, executor="local")
        assert all("key" in one for one in begins(path, **objectives))
        meta = json.loads((path / "meta.json").read_text())
        meta["machine"]["cores"] += 1
        (path / "meta.json").write_text(json.dumps(meta))
        assert all("key" not in one for one in begins(path, **objectives))
        assert all("key" in one for one in begins(path))

    def test_lies_in_the_new_space(self, old: autosearch.Study) -> None:
        """Also what a space does not name must be what it was."""
        found = begins(old, space={"level3.patch_size": {"int": [1, 2]}})
        assert [one["params"] for one in found] == [{"level3.patch_size": 1}]
        when = {"level2.extract": [True, False]}
        when["level2.patch_size"] = {"int": [2, 4], "when": {"level2.extract": [True]}}  # type: ignore
        found = begins(old, space={**when, **NARROW})
        assert all(one["params"]["level2.patch_size"] == 3 for one in found) and len(found) == 3


def test_evaluated_first_where_only_the_configurations_hold(
    old: autosearch.Study, tmp_path: Path
) -> None:
    new = searched(tmp_path, 2, WIDE, {"from": [str(old.path)], "top": 1}, study={"seed": 4})
    best = max(old.trials, key=lambda record: record.values["rwap"])
    assert new.trials[0].params == best.params | {"num_neighbors": 1}
    assert new.trials[0].taken_from is None and new.trials[0].seconds != best.seconds


class TestRefusals:
    def test_name_a_folder_without_a_study(self, tmp_path: Path) -> None:
        with pytest.raises(StudyError, match=f"{tmp_path}: no study here"):
            searched(tmp_path / "results", 1, WIDE, {"from": str(tmp_path)})
        assert not (tmp_path / "results" / "new" / "study.journal").exists()

    def test_name_what_the_space_does_not_hold(self, old: autosearch.Study) -> None:
        with pytest.raises(ConfigError, match=r"level3\.patch_size is [13]") as caught:
            begins(old, space={"level3.patch_size": [2]})
        assert caught.value.key == "start.from" and caught.value.value == str(old.path)

    def test_name_a_study_without_values(self, tmp_path: Path) -> None:
        folder, spec = StudyFolder(tmp_path), load_spec(content(NARROW, []))
        directions = {"gflops": "minimize", "rwap": "maximize"}
        StudyDriver(folder, spec, directions, dict, {}).close()
        folder.write_spec(spec)
        with pytest.raises(ConfigError, match="a study that has complete trials"):
            begins(folder.path)


def test_is_added_to_what_a_space_lists_itself() -> None:
    listed = load_spec(find_space("autopatch")).start
    spec = load_spec(find_space("autopatch"), ["start.from=results/a", "start.top=3"])
    assert spec.configurations == listed and len(listed) == 2
    assert spec.earlier == ["results/a"] and spec.start.top == 3  # type: ignore
    assert load_spec(find_space("autopatch"), ["start.from=[a, b]"]).earlier == ["a", "b"]
    narrow = ["start.from=[a]", "space.width=1.2"]
    assert load_spec(find_space("autopatch"), narrow).configurations == listed[1:]


def test_relative_folders_are_those_of_the_working_directory(
    old: autosearch.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(old.path.parent)
    inputs = load_inputs(load_spec(content(WIDE, {"from": [old.path.name]})))
    assert inputs.spec.earlier == [str(old.path)]
    assert load_spec(inputs.spec.model_dump()) == inputs.spec


def test_another_head_of_the_study_does_not_look_them_up_again(tmp_path: Path) -> None:
    configuration = {"x": 1, "kind": "a", "rate": 0.5}
    taken = {"params": configuration, "key": canonical_key(configuration), "status": "complete"}
    taken |= {"values": {"cost": 2.0, "score": 3.0}, "measured": {}, "violations": {}}
    taken |= {"seconds": {}, "reason": None, "threads": 1, "from": ["/gone", 7], "curve": []}

    def never() -> list[dict[str, Any]]:
        raise AssertionError("looked up again")

    first = open_driver(tmp_path, make_spec(trials=3), first=lambda: [taken])
    second = open_driver(tmp_path, make_spec(trials=3), first=never)
    out = second.ask()
    assert out.number == 1, "the first is told, with nothing to be done"
    third = first.ask()
    for driver, assignment in ((second, out), (first, third)):
        driver.tell(assignment.number, complete(assignment))
        driver.close()
    found = records(tmp_path)
    assert [record.taken_from for record in found] == [("/gone", 7), None, None]
    assert found[0].values == {"cost": 2.0, "score": 3.0} and found[0].params == configuration
