"""Samplers of OptunaHub, from a registry that is a folder."""

import re
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from autosearch.contracts.trials import Outcome, Status
from autosearch.errors import ConfigError, StudyError
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.study import hub
from autosearch.study.driver import StudyDriver
from autosearch.study.hub import check_hub_sampler

STATIC = {"kind": ["a", "b"], "width": {"int": [1, 1000]}}
CONDITIONAL = {"kind": ["a", "b"], "width": {"int": [1, 9], "when": {"kind": "a"}}}
HEAD = """
import optuna
import optunahub

class Climber(optunahub.samplers.SimpleBaseSampler):
    def __init__(self, search_space=None, seed=None, step=1, {more}):
        super().__init__(search_space=search_space, seed=seed)
        self.step, self.drawn = step, 0
        {keep}

    def sample_relative(self, study, trial, search_space):
        {first}
        self.drawn += self.step
        return {{"width": self.drawn}} if "width" in search_space else {{}}
"""


def registry(
    folder: Path, first: str = "pass", more: str = "**others", keep: str = "pass", tail: str = ""
) -> Path:
    """A registry with one sampler, whose widths rise by its step from trial to trial."""
    package = folder / "package" / "samplers" / "climber"
    package.mkdir(parents=True)
    text = HEAD.format(first=first, more=more, keep=keep) + tail
    (package / "__init__.py").write_text(text, encoding="utf-8")
    return folder


def make_spec(sampler: dict[str, Any], space: Any = STATIC, **others: Any) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "fake", "runner": "fake", "trials": 5},
            "space": space,
            "objectives": ["cost"],
            "sampler": sampler,
            **others,
        }
    )


def of(folder: Path, **options: Any) -> dict[str, Any]:
    return {"name": "hub/climber", "registry": str(folder), "options": options}


def widths(spec: StudySpec, folder: Path, trials: int) -> list[Any]:
    """Of a study that is opened and searched until it has so many trials."""
    limited = spec.model_copy(update={"study": spec.study.model_copy(update={"trials": trials})})
    driver = StudyDriver(StudyFolder(folder), limited, {"cost": "minimize"}, dict, {})
    while (assignment := driver.ask()) is not None:
        cost = float(assignment.params["width"] or 0)
        driver.tell(assignment.number, Outcome(Status.COMPLETE, {"cost": cost}))
    driver.close()
    return [record.params["width"] for record in StudyFolder(folder).trials.records()]


def test_a_sampler_is_found_keeps_its_state_and_takes_its_options(tmp_path: Path) -> None:
    spec = make_spec(of(registry(tmp_path / "there"), step=7))
    check_hub_sampler(spec, ["minimize"])
    assert widths(spec, tmp_path / "study", 3) == [7, 14, 21]
    # A process that goes on has another one, which begins anew.
    assert widths(spec, tmp_path / "study", 5) == [7, 14, 21, 7, 14]


def test_one_that_goes_on_draws_from_another_seed(tmp_path: Path) -> None:
    there = registry(tmp_path / "there", keep="import random; self.draw = random.Random(seed)",
                     first="return {'width': self.draw.randint(1, 1000)}")  # fmt: skip
    spec = make_spec(of(there))
    first = widths(spec, tmp_path / "study", 3)
    assert first == widths(spec, tmp_path / "again", 3)
    both = widths(spec, tmp_path / "study", 6)
    assert both[:3] == first and both[3:] != first


def test_first_configurations_come_first(tmp_path: Path) -> None:
    spec = make_spec(of(registry(tmp_path / "there")), start=[{"width": 500}])
    assert widths(spec, tmp_path / "study", 3)[0] == 500


def test_spaces_with_conditions_are_drawn_from(tmp_path: Path) -> None:
    spec = make_spec(of(registry(tmp_path)), space=CONDITIONAL)
    check_hub_sampler(spec, ["minimize"])


def test_what_was_fetched_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNAHUB_CACHE_HOME", str(tmp_path))
    registry(tmp_path.joinpath(*hub._FETCHED))
    check_hub_sampler(make_spec({"name": "hub/samplers/climber"}), ["minimize"])
    check_hub_sampler(make_spec({"name": "hub/climber:Climber"}), ["minimize"])


def test_nothing_is_fetched_but_the_command_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNAHUB_CACHE_HOME", str(tmp_path))
    import optunahub

    monkeypatch.setattr(optunahub, "load_module", lambda *a, **b: pytest.fail("asked the network"))
    with pytest.raises(ConfigError, match=r"python -c .*load_module\('samplers/climber'\)"):
        check_hub_sampler(make_spec({"name": "hub/climber"}), ["minimize"])


def test_without_optunahub_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optunahub", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'autosearch[hub]'")):
        check_hub_sampler(make_spec(of(registry(tmp_path))), ["minimize"])


ONE = "self._raise_error_if_multi_objective(study)"
ANOTHER = "\nclass Other(Climber):\n    pass\n"


@pytest.mark.parametrize(
    ("made", "options", "others", "directions", "said"),
    [
        ({"first": ONE}, {}, {}, ["minimize", "maximize"], "2 objectives.*multi-objective"),
        ({}, {}, {"constraints": ["cost <= 1"]}, ["minimize"], "constraints_func"),
        ({"more": "width=1"}, {"stp": 1}, {}, ["minimize"], "keywords of Climber: step, width"),
        ({"tail": ANOTHER}, {}, {}, ["minimize"], "hub/climber:Climber, hub/climber:Other"),
        ({"tail": "\nimport no_such_package\n"}, {}, {}, ["minimize"], "no_such_package"),
    ],
    ids=["objectives", "constraints", "options", "several", "lacks a package"],
)
def test_what_does_not_fit_is_refused_in_a_line(
    tmp_path: Path, made: dict[str, str], options: Any, others: Any, directions: Any, said: str
) -> None:
    spec = make_spec(of(registry(tmp_path, **made), **options), **others)
    with pytest.raises(ConfigError, match=said) as caught:
        check_hub_sampler(spec, directions)
    assert "\n" not in str(caught.value)


def test_one_that_refuses_several_objectives_takes_one(tmp_path: Path) -> None:
    check_hub_sampler(make_spec(of(registry(tmp_path, first=ONE))), ["minimize"])


def test_constraints_are_one_number_above_zero_where_any_is_broken(tmp_path: Path) -> None:
    there = registry(tmp_path, more="constraints_func=None", keep="self.ask = constraints_func")
    spec = make_spec(of(there), constraints=["cost <= 1"])
    check_hub_sampler(spec, ["minimize"])
    for values, expected in (([-2.0, 3.0, 4.0], 7.0), ([-2.0, -1.0], -1.0), ([], 0.0)):
        trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
        for number, value in enumerate(values):
            trial.set_constraint(str(number), value)
        assert hub._violation(trial) == (expected,)


def test_what_fails_later_ends_the_search_in_a_line(tmp_path: Path) -> None:
    there = registry(tmp_path / "there", first="assert self.drawn < 4, 'too far'")
    spec = make_spec(of(there))
    check_hub_sampler(spec, ["minimize"])
    with pytest.raises(StudyError, match="the sampler hub/climber failed: too far"):
        widths(spec, tmp_path / "study", 5)


@pytest.mark.parametrize(
    ("sampler", "key"),
    [
        ({"name": "hub/"}, "sampler.name"),
        ({"name": "hub/../x"}, "sampler.name"),
        ({"name": "tpe", "options": {"a": 1}}, "sampler.options"),
        ({"name": "tpe", "registry": "here"}, "sampler.registry"),
        ({"name": "hub/climber", "options": {"seed": 1}}, "sampler.options"),
        ({"name": "hub/climber", "noise": "shrink"}, "sampler.noise"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(sampler: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_spec(sampler)
    assert caught.value.key == key
