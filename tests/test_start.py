"""Configurations that a search begins with."""

from pathlib import Path

import pytest

from autosearch.contracts import registry
from autosearch.contracts.registry import find_space
from autosearch.contracts.trials import Outcome, Status, canonical_key
from autosearch.errors import ConfigError
from autosearch.spec.reading import load_spec, parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.study.driver import StudyDriver

SPACE = {
    "x": {"int": [0, 9999]},
    "kind": ["a", "b", None],
    "rate": {"float": [1e-3, 1.0], "log": True, "when": {"kind": ["a"]}},
}
START = [{"x": 42, "kind": "a", "rate": 0.5}, {"x": 7, "kind": None}, {"kind": "b"}]


def spec_of(sampler: str, start: list[dict[str, object]], trials: int = 6) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "fake", "runner": "fake", "trials": trials},
            "space": SPACE if sampler != "gp" else {**SPACE, "rate": {"float": [1e-3, 1.0]}},
            "start": start,
            "objectives": ["cost", "score"],
            "sampler": {"name": sampler, "startup_trials": 2},
        }
    )


def searched(path: Path, spec: StudySpec, limit: int = 99) -> list[dict[str, object]]:
    directions = {"cost": "minimize", "score": "maximize"}
    driver = StudyDriver(StudyFolder(path), spec, directions, dict, {})
    while limit and (assignment := driver.ask()):
        x = float(assignment.params["x"] or 0)
        driver.tell(assignment.number, Outcome(Status.COMPLETE, {"cost": x, "score": -x * x}))
        limit -= 1
    driver.close()
    return [dict(record.params) for record in StudyFolder(path).trials.records()]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "nsga3", "gp"])
def test_first_trials_are_those_given(sampler: str, tmp_path: Path) -> None:
    found = searched(tmp_path, spec_of(sampler, START))
    assert len(found) == 6
    for given, drawn in zip(START, found, strict=False):
        assert given.items() <= drawn.items()
    assert found[2]["x"] not in (42, 7), "what is left out is drawn"
    assert len({str(params) for params in found}) == 6


def test_a_search_cut_off_among_them_goes_on_with_the_next(tmp_path: Path) -> None:
    spec = spec_of("tpe", START)
    whole = searched(tmp_path / "whole", spec)
    searched(tmp_path / "cut", spec, limit=1)
    assert searched(tmp_path / "cut", spec) == whole


@pytest.mark.parametrize(
    ("start", "key"),
    [
        ([{"x": 1}, {"y": 2}], "start.1.y"),
        ([{"x": 10_000}], "start.0.x"),
        ([{"x": 1.5}], "start.0.x"),
        ([{"kind": "c"}], "start.0.kind"),
        ([{"kind": [1]}], "start.0.kind"),
        (["a"], "start.0"),
        ({"x": 1}, "start.x"),
        ({"configurations": [{"x": 1}, {"y": 2}], "from": "a"}, "start.configurations.1.y"),
        ({"from": [1]}, "start.from.0"),
        ({"from": ["a"], "top": 0}, "start.top"),
        (5, "start"),
    ],
)
def test_what_the_space_does_not_hold_is_refused(start: list, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spec_of("tpe", start)
    assert caught.value.key == key


def test_first_configurations_of_fixed_backbones_leave_nothing_to_chance() -> None:
    """And each is one of its own that the runner can build."""
    spec = load_spec(find_space("backbones_plus"))
    runner = registry.load_runner("patchcore")(spec)
    seen = set()
    for one in spec.configurations:
        named = {p.name for p in spec.parsed_space.parameters if p.active(one)}
        assert one.keys() == named
        seen.add(canonical_key(runner.canonical(one)))
    assert len(seen) == len(spec.configurations) == 5


def test_what_a_narrower_space_does_not_hold_is_left_out() -> None:
    whole, narrow = (
        load_spec(find_space("autopatch"), overrides) for overrides in ([], ["space.width=1.2"])
    )
    assert [one["width"] for one in whole.start] == [1.0, 1.2]
    assert narrow.start == whole.start[1:]
    assert load_spec(find_space("autopatch"), ["space={width: 1.2}"]).start == []
