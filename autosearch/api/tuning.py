"""Trials for somebody else's search with Ray Tune."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.api.searching import build_spec
from autosearch.api.update import Progress, quiet, reading
from autosearch.contracts import registry

if TYPE_CHECKING:
    from autosearch.contracts import Objective, Runner


def trainable(
    space: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | Iterable[str] = (),
    *,
    runner: type[Runner] | None = None,
    objectives: Iterable[Objective] = (),
    progress: Progress = quiet,
) -> Any:
    """The trials of a spec as a trainable of Ray Tune, for a `ray.tune.Tuner` of your own.

    Tune's searcher proposes values of the runner's parameters, which its ``param_space`` names as
    a spec does. What it leaves out has the value of the spec's ``space`` where that allows but
    one, else the runner's default; it may name ``preprocess`` where that space does. Values and
    seed are those that a trial of `search` would have. Every trial reports the objectives on
    validation, all else that a search measures, and ``progress``, the part of its training that
    is done. One that fails, cannot be built or breaks a constraint ends with Tune's error.
    Nothing is stored: trials, sampler, budget and pruning are Tune's, but a spec with ``pruner:
    {name: none}`` does not report while it trains. There are no checkpoints: a trial that Tune
    pauses or restores begins anew. ``study.post_trials`` tries nothing here: what comes after a
    fit is Tune's to propose, too.

    Images are read now, and go to each machine once. Without a Ray session one begins.

    Args:
        space: As of `autosearch.search`; so are the others.
        overrides: Values of the spec to replace.
        runner: A runner that is installed under no name.
        objectives: Objectives that are installed under no name.
        progress: Told of images read.

    Returns:
        A trainable that asks for the spec's ``resources``; `ray.tune.with_resources` changes that.

    Raises:
        ConfigError: A key or value is not allowed.
        AutosearchError: Data or weights cannot be used.
    """
    from autosearch.executors import make_trainable
    from autosearch.study import check_packages, load_inputs

    spec, others = build_spec(space, overrides, runner), tuple(objectives)
    check_packages(spec, registry.objectives(others))
    return make_trainable(load_inputs(spec, reading(progress), runner, others))
