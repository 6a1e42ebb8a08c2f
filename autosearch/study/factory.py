"""The robust estimate of a trial: which images are drawn from, and repeats until there are enough.

Source: "From Lab to Factory", steps 0 to 5. It reads every image of the dataset, those of the test
split among them, so nothing that selects may read any of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch import __version__
from autosearch.contracts import Status, TrialRecord
from autosearch.data import Pool
from autosearch.errors import ConfigError, StudyError
from autosearch.spec import Params, StudySpec
from autosearch.storage import EstimateFiles
from autosearch.study.factory_split import factory_split
from autosearch.study.inputs import Inputs
from autosearch.study.repeats import RepeatDriver, RepeatEvaluator, repeat_seed
from autosearch.study.session import Executor


@dataclass(frozen=True)
class EstimateOptions:
    """What an estimate is asked for.

    Attributes:
        repeats: How many, 2 or more.
        merge_test_normals: Step 0: whether normal images of the test split and those that train
            are one pool, which takes both to be alike; else only images that the dataset states to
            be test ones are measured on.
        search_anomalies: Whether anomalous images that the search was driven by take part as well;
            the trial was chosen by them.
        force: Begin anew where an estimate of something else is in the way.
    """

    repeats: int = 10
    merge_test_normals: bool = True
    search_anomalies: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.repeats, int) or not 2 <= self.repeats <= 999:
            raise ConfigError("repeats", self.repeats, "a whole number from 2 to 999")


def run_estimate(
    files: EstimateFiles,
    title: str,
    inputs: Inputs,
    pool: Pool,
    records: Sequence[TrialRecord],
    options: EstimateOptions,
    executor: Executor,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Evaluate repeats until there are enough; each is stored when it is finished.

    Args:
        files: Where they are kept; what is there is not done again.
        title: What is estimated, for people.
        inputs: What the study was made from.
        pool: All images of its dataset.
        records: The trial, or those of an ensemble.
        options: What is asked for.
        executor: Where repeats run.
        told: Told of repeats that are done and of all, first before any runs.

    Raises:
        ConfigError: The runner learns from defects, or the images cannot be split so.
        StudyError: Another estimate is in the way, or a repeat failed.
        KeyboardInterrupt: It was stopped; what is finished is kept.
    """
    runner = inputs.runner
    if runner.supervised:
        name = inputs.spec.study.runner
        raise ConfigError("runner", name, "one that trains on normal images alone")
    kept, drawable = _drawn_from(pool, options)
    images = pool.images.select(kept)
    seed = inputs.spec.study.seed
    # Refused before anything is written.
    factory_split(images.labels, images.groups, repeat_seed(seed, 0), drawable)
    about = _about(title, inputs, pool, kept, records, options)
    before = files.load()
    if before is not None and before["made_from"] != about["made_from"]:
        if not options.force:
            what = [k for k, v in about["made_from"].items() if before["made_from"].get(k) != v]
            raise StudyError(
                f"{files.path}: holds an estimate of something else (other {', '.join(what)}); "
                "replace it with --force, or give this one another --name"
            )
        files.clear()
    done = set(files.repeats())
    files.write(about)
    missing = [number for number in range(options.repeats) if number not in done]
    total = options.repeats

    def finished(number: int) -> None:
        done.add(number)
        told(len([n for n in done if n < total]), total)

    told(total - len(missing), total)
    if not missing:
        return
    driver = RepeatDriver(
        inputs.spec,
        records[0],
        {number: repeat_seed(seed, number) for number in missing},
        files.write_repeat,
        finished,
    )
    executor.run(driver, RepeatEvaluator(inputs.spec, runner, tuple(records), images, drawable))
    if driver.stopped:
        raise KeyboardInterrupt


def only_configuration(inputs: Inputs) -> TrialRecord:
    """The configuration of a spec whose space has no other, as a trial that could be fitted.

    Raises:
        ConfigError: There are several.
        Infeasible: It cannot be built.
    """
    params = _only(inputs.spec)
    return TrialRecord(0, Status.COMPLETE, params, inputs.runner.canonical(params))


def _only(spec: StudySpec) -> Params:
    """The values of a space that leaves no choice, or of the one configuration of ``start``."""
    given = spec.configurations[0] if len(spec.configurations) == 1 else {}
    params: Params = {}
    for parameter in spec.parsed_space.parameters:
        if not parameter.active(params):
            continue
        if parameter.name not in given and parameter.size() != 1:
            allowed = "a single value, or one configuration under start that has one"
            raise ConfigError(f"space.{parameter.name}", parameter.to_plain(), allowed)
        params[parameter.name] = given.get(parameter.name, parameter.values()[0])
    return params


def _drawn_from(
    pool: Pool, options: EstimateOptions
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Which images take part, and which normal ones of them may be measured on."""
    images = pool.images
    driven = {
        group
        for group, part, anomalous in zip(images.groups, pool.parts, images.labels, strict=True)
        if part == "val" and anomalous
    }
    kept = np.ones(len(images), dtype=bool)
    if not options.search_anomalies:
        kept = np.array([group not in driven for group in images.groups], dtype=bool)
    if options.merge_test_normals:
        return kept, None
    drawable = np.array(pool.stated, dtype=bool) & ~images.labels & kept
    if not drawable.any():
        allowed = "true, since the dataset states of no normal image that it is a test one"
        raise ConfigError("merge_test_normals", False, allowed)
    return kept, drawable[kept]


def _about(
    title: str,
    inputs: Inputs,
    pool: Pool,
    kept: NDArray[np.bool_],
    records: Sequence[TrialRecord],
    options: EstimateOptions,
) -> dict[str, Any]:
    """What ``estimate.json`` says."""
    spec = inputs.spec
    made_from = {
        "data": pool.info["sha256"],
        "runner": spec.study.runner,
        "configurations": [record.canonical for record in records],
        "weights": {weights["name"]: weights["sha256"] for weights in inputs.runner.weights()},
        "seed": spec.study.seed,
        "merge_test_normals": options.merge_test_normals,
        "search_anomalies": options.search_anomalies,
    }
    types = [kind for kind, use in zip(pool.images.types, kept, strict=True) if use]
    about = {
        "title": title,
        "study": spec.study.name,
        "autosearch": __version__,
        "made_from": made_from,
        "dataset": {
            "name": spec.dataset.name,
            "category": pool.info["category"],
            "root": pool.info["root"],
            "orientation": spec.dataset.orientation,
            "images": dict(sorted(Counter(types).items())),
            "grouped": len(set(pool.images.groups)) < len(pool.images),
            "left_out": int((~kept).sum()),
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(about))
    return plain
