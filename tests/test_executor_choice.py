"""Where trials run unless somebody says so."""

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from dataset_parts import sound_dataset, spec as dataset_spec
from test_forecast import GIVEN, timed

import autosearch
from autosearch.contracts import registry
from autosearch.errors import ConfigError, Infeasible
from autosearch.executors import choice
from autosearch.spec import load_spec
from autosearch.spec.reading import parse_spec
from autosearch.study import forecast as foretelling
from autosearch.study.inputs import load_inputs

__all__ = ["timed"]  # A fixture.

SMALL = {"dataset.image_size": 64, "backbone.weights": "random", "space.coreset_ratio": 0.25}


class Driver:
    """One that is only asked for its study."""

    def __init__(self, **settings: object) -> None:
        self.spec = parse_spec(
            {
                "study": {"name": "fake", "runner": "fake", **dict(settings.pop("study", {}))},
                "space": {"x": [1]},
                "objectives": ["cost"],
                "resources": settings,
            }
        )
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Names and addresses of the executors that carried something out."""
    found: list[tuple[str, str | None]] = []

    class Noting:
        def __init__(self, *its: Any) -> None:
            self.its = its

        def run(self, driver: object, evaluator: object) -> None:
            found.append(self.its)

    made = choice.make_executor
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(
        choice, "make_executor",
        lambda name, *its: made(name, *its) if name == "auto" else Noting(name, *its),
    )  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("seconds", "settings", "address", "name", "text"),
    [
        (12.3, {}, None, "local", "this process: about 12 s of work; for Ray's workers: --exec"),
        (0.01, {"max_concurrent": 1}, None, "local", "about 1 s of work"),
        (60.1, {}, None, "ray", "Ray's workers: more than a minute of work"),
        (None, {}, None, "ray", "how long trials take is not known"),
        (1.0, {"max_concurrent": 2}, None, "ray", "resources.max_concurrent is 2"),
        (1.0, {"cpu": 64}, None, "ray", "resources.cpu is 64.0"),
        (1.0, {"gpu": 0.25}, None, "ray", "resources.gpu is 0.25"),
        (1.0, {"gpu": 0, "cpu": 1}, None, "local", "this process"),
        (1.0, {"study": {"trial_timeout": 9.0}}, None, "ray", "study.trial_timeout"),
        (1.0, {}, "auto", "ray", "a cluster is named"),
    ],
)
def test_this_process_is_taken_for_what_it_does_in_a_minute(
    taken: list[tuple[str, str | None]],
    seconds: float | None,
    settings: dict[str, object],
    address: str | None,
    name: str,
    text: str,
) -> None:
    said: list[str] = []
    chosen = choice.make_executor("auto", address, lambda: seconds, said.append)
    chosen.run(Driver(**settings), object())  # type: ignore[arg-type]
    assert taken == [(name, address)]
    (line,) = said
    assert text in line


def test_of_a_cluster_that_the_environment_names(
    taken: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    choice.make_executor("auto", None, lambda: 1.0).run(Driver(), object())  # type: ignore[arg-type]
    assert taken == [("ray", None)]
    with pytest.raises(ConfigError, match="--address"):
        choice.make_executor("auto", "ray://10.0.0.1:10001")


def test_outside_of_the_main_thread(taken: list[tuple[str, str | None]]) -> None:
    chosen = choice.make_executor("auto", None, lambda: None)
    thread = threading.Thread(target=chosen.run, args=(Driver(), object()))
    thread.start()
    thread.join()
    assert taken == [("local", None)]


def test_nothing_runs_where_it_is_stopped_before(taken: list[tuple[str, str | None]]) -> None:
    driver = Driver()
    choice.make_executor("auto", None, lambda: driver.stop()).run(driver, object())  # type: ignore
    assert not taken


def test_work_is_that_of_the_first_configuration_and_two_others(
    timed: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = dataset_spec(sound_dataset(tmp_path / "part").parent)
    spec = load_spec(registry.find_space("autopatch"), [*GIVEN, "study.repeats=2"])
    inputs = load_inputs(spec.model_copy(update={"dataset": dataset}))
    found: list[tuple[Any, float | None]] = []
    original = foretelling._timed

    def noting(spec: Any, runner: Any, params: Any, *others: Any) -> Any:
        found.append((params, answer := original(spec, runner, params, *others)))
        return answer

    monkeypatch.setattr(foretelling, "_timed", noting)
    whole = inputs.work(30, 1e9)
    assert whole == pytest.approx(30 * 2 * sum(one[1] for _, one in found) / 3)
    assert found[0][0] == foretelling._first(inputs.spec, inputs.runner)
    assert len({str(params) for params, _ in found}) == 3
    # What is seen to be too much already is not looked at any further.
    assert (inputs.work(30, 60.0) or 0) > 60 and len(found) == 4
    again = inputs.work(30, 1e9)
    assert again == whole and [p for p, _ in found[4:]] == [p for p, _ in found[:3]]

    def refusing(*given: Any) -> Any:
        raise Infeasible("no")

    monkeypatch.setattr(foretelling, "_timed", refusing)
    assert inputs.work(30, 1e9) is None
    monkeypatch.setattr(foretelling, "_timed", lambda *given: (None, None))
    assert inputs.work(30, 1e9) is None
    monkeypatch.setattr(foretelling, "_timed", lambda *given: 1 / 0)
    assert inputs.work(30, 1e9) is None


def test_a_small_search_needs_no_ray(tmp_path: Path) -> None:
    part = sound_dataset(tmp_path / "part")
    given = {**SMALL, "dataset.root": str(part.parent), "dataset.category": "part"}
    updates: list[autosearch.Update] = []
    before = "ray.tune" in sys.modules
    study = autosearch.search(
        "autopatch", given, trials=2, results=tmp_path, progress=updates.append
    )
    (text,) = (update.text for update in updates if update.stage == "executor")
    assert text.startswith("trials run in this process: about ")
    assert len(study.trials) == 2 and ("ray.tune" in sys.modules) == before
    alone = autosearch.search(
        "autopatch", given, trials=2, results=tmp_path / "alone", executor="local"
    )
    assert [(r.params, r.values) for r in study.trials] == [
        (r.params, r.values) for r in alone.trials
    ]
