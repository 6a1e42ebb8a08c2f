"""Our trials as a trainable of somebody else's Ray Tune: their searcher proposes, we evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ray
import torch
from ray import tune

from autosearch.contracts import (
    PREPROCESS,
    Assignment,
    Outcome,
    Progress,
    Runner,
    Status,
    check_space,
    trial_seed,
)
from autosearch.errors import AutosearchError
from autosearch.executors.ray_cluster import share, spread
from autosearch.spec import Params, Space, StudySpec
from autosearch.study import Evaluator, Inputs, TrialEvaluator, evaluate_safely


class TrialFailed(AutosearchError):
    """A trial of somebody else's Tune that has no values; Tune shows the reason as its error."""


class TuneTrial(tune.Trainable):  # type: ignore[misc]
    """One configuration: fitted and measured as the trial of a search with these parameters is.

    A step ends where a training pauses, with the objectives as they stand, or with the trial.
    """

    _evaluator: Evaluator
    _runner: Runner
    _wanted: dict[str, Any]
    _steps: Iterator[Progress | Outcome] | None

    def setup(self, config: dict[str, Any], *, shared: list[Any]) -> None:
        """Keep what all trials share.

        Args:
            config: Parameters of the first trial.
            shared: The evaluator and the runner, as an object that a node has once.
        """
        self._evaluator, self._runner = ray.get(shared[0])
        torch.set_num_threads(max(1, int(self._evaluator.spec.resources.cpu)))
        self.reset_config(config)

    def step(self) -> dict[str, Any]:
        """Evaluate until the trial reports in the middle of its training, or to its end.

        Raises:
            AutosearchError: The configuration is not allowed or cannot be built.
            TrialFailed: It failed, or breaks a constraint.
        """
        spec = self._evaluator.spec
        if self._steps is None:
            assignment = assignment_of(spec, self._runner, self._wanted)
            self._steps = evaluate_safely(self._evaluator, assignment, spec.study.trial_timeout)
        step = next(self._steps)
        if not isinstance(step, Outcome):
            return {**step.values, "progress": step.fraction}
        outcome = step.checked(spec.objectives)
        if outcome.status != Status.COMPLETE:
            raise TrialFailed(f"{outcome.status}: {outcome.reason}\n{outcome.traceback or ''}")
        return {**outcome.measured, **outcome.values, "progress": 1.0, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration without starting a new process."""
        self._wanted, self._steps = new_config, None
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing, although Tune asks at every end: a trial that is cut off begins anew."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Begin anew."""


def make_trainable(inputs: Inputs) -> Any:
    """A trainable for `ray.tune.Tuner`; see `autosearch.trainable`.

    Args:
        inputs: Of the study whose trials these are.
    """
    if not ray.is_initialized():
        ray.init()
    spec, runner = inputs.spec, inputs.runner
    evaluator = TrialEvaluator(spec, runner, inputs.data, inputs.others)
    demand, _ = share(spec.resources)
    # Other machines do not see the file in which pictures lie on this one.
    shared = [ray.put((evaluator.carried() if spread() else evaluator, runner))]
    return tune.with_resources(tune.with_parameters(TuneTrial, shared=shared), demand)


def assignment_of(spec: StudySpec, runner: Runner, config: Mapping[str, Any]) -> Assignment:
    """What a configuration of Tune's asks for.

    Args:
        spec: The study.
        runner: Its runner.
        config: Values of parameters. Those that it leaves out have the value of the spec's space
            where that allows but one, else the runner's default.

    Raises:
        ConfigError: A parameter is unknown, or its value is not allowed.
        Infeasible: The runner cannot build it.
    """
    params: Params = {
        parameter.name: parameter.values()[0]
        for parameter in spec.parsed_space.parameters
        if not parameter.when and parameter.size() == 1
    }
    # Some of Tune's searchers give numbers of numpy.
    given = {name: value.item() if hasattr(value, "item") else value
             for name, value in config.items()}  # fmt: skip
    if given:
        space = Space.parse({name: [value] for name, value in given.items()}, "config")
        its = f"runner {spec.study.runner}"
        elsewhere = {**runner.elsewhere, PREPROCESS: f"the spec's space must name {PREPROCESS}"}
        check_space(space, runner.parameters, its, elsewhere)
    canonical = runner.canonical({**params, **given})
    alike = runner.post_of(canonical) if spec.study.post_trials else ()
    seed = trial_seed(spec.study.seed, canonical, alike)
    return Assignment(0, {**params, **given}, canonical, seed)
