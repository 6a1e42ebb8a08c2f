"""Studies go on as they were begun, though defaults of their runner have changed since."""

from pathlib import Path

import pytest
from driving import DIRECTIONS, NARROW, make_spec

from autosearch.contracts.trials import Outcome, Status
from autosearch.errors import Infeasible, StudyError
from autosearch.spec.space import Params
from autosearch.storage.folder import StudyFolder
from autosearch.study.driver import StudyDriver


def older(params: Params) -> Params:
    return {"kind": "raw", "extra": 1, **params} if params["x"] else {"kind": "raw", **params}


def younger(params: Params) -> Params:
    """Another default for one, and none of the other's effects where x is 0."""
    full = {"kind": "unit", "extra": 2, **params}
    return full if params["x"] else {name: full[name] for name in full if name != "extra"}


def open_driver(folder: Path, canonical, trials: int = 4) -> StudyDriver:
    spec = make_spec(NARROW, {"name": "random"}, trials=trials)
    return StudyDriver(StudyFolder(folder), spec, DIRECTIONS, canonical, {})


def search(folder: Path, canonical, trials: int) -> list[Params]:
    """Canonical forms of all trials."""
    driver = open_driver(folder, canonical, trials)
    while assignment := driver.ask():
        driver.tell(assignment.number, Outcome(Status.COMPLETE, {"cost": 0.0, "score": 1.0}))
    driver.close()
    return [record.canonical for record in StudyFolder(folder).trials.records()]


def test_parameters_that_a_space_does_not_name_keep_their_values(tmp_path: Path) -> None:
    search(tmp_path / "changed", older, 5)
    found = search(tmp_path / "changed", younger, 12)
    assert found == search(tmp_path / "same", older, 12)
    assert {form["x"] for form in found} == {0, 1, 2, 3}
    assert {form["kind"] for form in search(tmp_path / "new", younger, 4)} == {"unit"}


def test_a_study_is_refused_whose_trials_cannot_be_had_again(tmp_path: Path) -> None:
    search(tmp_path, older, 8)

    def other(params: Params) -> Params:
        return {**younger(params), "kind": "unit"}

    def impossible(params: Params) -> Params:
        raise Infeasible("never")

    with pytest.raises(StudyError, match=r"trial 0 .*: kind unit, raw then; continue"):
        open_driver(tmp_path, other)
    with pytest.raises(StudyError, match=r"trial 0 .*values now than then"):
        open_driver(tmp_path, impossible)
    assert open_driver(tmp_path, older).summary().finished == 4
