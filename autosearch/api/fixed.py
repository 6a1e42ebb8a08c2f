"""Estimates of a configuration that no search found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.api.factory import run_repeats, stored_estimate
from autosearch.api.searching import build_spec
from autosearch.api.update import Progress, quiet, reading
from autosearch.storage import EstimateFiles

if TYPE_CHECKING:
    from autosearch.study import Estimate, EstimateOptions, Terms


def estimate_spec(
    space: str | Path | Mapping[str, Any],
    folder: str | Path,
    overrides: Mapping[str, Any] | Iterable[str] = (),
    *,
    options: EstimateOptions | None = None,
    terms: Terms | None = None,
    name: str | None = None,
    executor: str = "auto",
    address: str | None = None,
    progress: Progress = quiet,
) -> Estimate:
    """Estimate what one configuration will reach that no search has found.

    Args:
        space: As `autosearch.search` takes it, with a single value of every parameter or one whole
            configuration under ``start``.
        folder: Where ``factory/NAME`` shall lie.
        overrides: See `autosearch.search`.
        options: See `EstimatedStudy.factory_estimate`; so are all others. No image drove a search,
            so all take part.
        terms: By which rule thresholds are chosen, prevalence, parts per shift.
        name: Of the estimate; by default that of the spec.
        executor: Where repeats run.
        address: Of a Ray cluster.
        progress: Told of images read, and of repeats that are done.

    Raises:
        ConfigError: The spec leaves a choice.
    """
    from autosearch.data import load_pool
    from autosearch.study import EstimateOptions, load_inputs, only_configuration

    spec = build_spec(space, overrides)
    files = EstimateFiles(Path(folder), name or spec.study.name)
    inputs = load_inputs(spec, reading(progress))
    record = only_configuration(inputs)
    pool = load_pool(inputs.spec.dataset, reading(progress, "reading all images"))
    asked = replace(options or EstimateOptions(), search_anomalies=True)
    title = f"the configuration of {spec.study.name}"
    run_repeats(files, title, inputs, pool, [record], asked, executor, address, progress)
    return stored_estimate(folder, files.name, terms)
