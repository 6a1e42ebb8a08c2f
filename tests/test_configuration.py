"""What is built of a configuration is shown, also what the space does not name."""

from typing import Any, ClassVar

import pytest
from rich.console import Console

from autosearch.api.update import Update
from autosearch.cli.configuration import built_by_default, cut_names, legend, short
from autosearch.cli.console import trial_table
from autosearch.cli.search import _View
from autosearch.contracts import registry
from autosearch.contracts.detector import left_on
from autosearch.contracts.objectives import Objective
from autosearch.contracts.trials import Status, Summary, TrialRecord
from autosearch.spec.reading import load_spec, parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.spec.space import Params, Space

ONE_BLOCK: Params = {"stage0.extraction_block": 1}


def spec_of(runner: str, space: Params) -> StudySpec:
    study = {"name": "x", "runner": runner}
    weights = {"weights": "random"}
    return parse_spec(
        {"study": study, "space": space, "objectives": ["rwap"], "backbone": weights}
    )


def trial(runner: str, params: Params) -> TrialRecord:
    """What a runner makes of a configuration."""
    canonical = registry.load_runner(runner)(spec_of(runner, params)).canonical(params)
    return TrialRecord(0, Status.COMPLETE, params, canonical)


def by_default(runner: str, space: dict[str, object]) -> list[str]:
    return list(built_by_default(Space.parse(space), registry.load_runner(runner).parameters))


def test_blocks_that_nobody_asked_for_stand_in_parentheses() -> None:
    record = trial("autopatch", ONE_BLOCK)
    assert short(record) == (
        "stage0 EB1 (KS3 ER3 PS3)  stage1 (KS3 ER3 EB6 PS3)  stage2 (KS3 ER3)  "
        "stage3 (KS3 ER3 EB14 PS3)"
    )
    notes = list(legend([record], cut_names([record])))
    assert "EB extraction_block" in notes[0] and "defaults" in notes[1]
    console = Console(width=200)
    with console.capture() as caught:
        console.print(trial_table(record))
    shown = caught.get()
    assert "6 (default)" in shown and "1 (default)" in shown
    assert not [line for line in shown.splitlines() if "stage0.extraction_block" in line
                and "default" in line]  # fmt: skip


def test_levels_that_nobody_asked_for_do_too() -> None:
    record = trial("patchcore", {"level1.extract": True, "level2.extract": False})
    assert short(record) == "level1 E (PS3)  level3 (E PS3)"


def test_what_was_asked_for_stands_without() -> None:
    params: Params = {"level2.extract": True, "level2.patch_size": 5, "level3.extract": False}
    record = trial("patchcore", {**params, "num_neighbors": 4, "coreset_ratio": 0.5})
    assert short(record) == "coreset_ratio 0.5  num_neighbors 4  level2 E PS5"
    assert not [note for note in legend([record], cut_names([record])) if "defaults" in note]


def test_names_that_begin_alike_are_told_apart() -> None:
    names = ("rotation", "shear", "scale", "defect_free")
    params: Params = {f"weight.{name}": 0.5 for name in names}
    record = TrialRecord(0, Status.COMPLETE, params, params)
    assert short(record) == "weight R0.5 SH0.5 SC0.5 DF0.5"
    odd: Params = {"a.x": 1, "b.X": 2, "c.": 3}
    assert short(TrialRecord(0, Status.COMPLETE, odd, odd)) == "a x1  b X2  c 3"


@pytest.mark.parametrize("space", ["glass", "bilevel_blackbox"])
def test_long_lists_of_parameters_stay_short(space: str) -> None:
    spec = load_spec(registry.find_space(space))
    known = registry.load_runner(spec.study.runner).parameters
    assert not list(built_by_default(spec.parsed_space, known))
    params = {name: info.default for name, info in known.items()}
    loose = TrialRecord(0, Status.COMPLETE, {}, params)
    assert len(short(loose)) < 80


def test_only_parts_that_are_built_are_left_on() -> None:
    known = registry.load_runner("autopatch").parameters
    space = Space.parse({**ONE_BLOCK, "stage3.extraction_block": [None, 13]})
    assert left_on(space, known) == {"stage1.extraction_block": None}
    for name in ("autopatch", "autopatch_fixed", "backbones"):
        spec = load_spec(registry.find_space(name))
        assert not left_on(spec.parsed_space, registry.load_runner(spec.study.runner).parameters)


def test_they_are_named_with_how_to_leave_them_out() -> None:
    (line,) = by_default("autopatch", ONE_BLOCK)
    assert "stage1.extraction_block 6, stage3.extraction_block 14" in line
    assert "--set space.stage1.extraction_block=null" in line
    (line,) = by_default("patchcore", {"level1.extract": [True]})
    assert "level2.extract true" in line and "--set space.level3.extract=false" in line


class Searched:
    """A study that is about to be searched."""

    meta: ClassVar[dict[str, Any]] = {}
    objectives: ClassVar[dict[str, Objective]] = {}
    spec = spec_of("autopatch", ONE_BLOCK)


def test_run_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with _View() as view:
        view(Update("trials", 0, 1, summary=Summary({}, 1, {}), study=Searched()))
    lines = capsys.readouterr().out.splitlines()
    (said,) = [line for line in lines if line.startswith("defaults ")]
    assert "stage1.extraction_block 6" in said and "space.stage3.extraction_block=null" in said
