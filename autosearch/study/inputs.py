"""What a search is made from, loaded and checked: data, runner, objectives."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autosearch import __version__
from autosearch.contracts import (
    SCORED,
    Detector,
    Objective,
    Runner,
    TrialRecord,
    check_space,
    registry,
    staged_runner,
    trial_seed,
    understood,
)
from autosearch.data import SearchData, load_search_data, open_index, settled
from autosearch.errors import ConfigError, DataError, StudyError
from autosearch.files import user_path
from autosearch.spec import ArchitectureSpec, Override, Params, StartSpec, StudySpec
from autosearch.storage import StudyFolder
from autosearch.study.evaluation import build
from autosearch.study.fitted import in_part
from autosearch.study.forecast import forecast, work
from autosearch.study.post_settings import check_post_trials
from autosearch.study.same_data import check_data
from autosearch.study.scorable import check_scorable, named_figures
from autosearch.study.staging import check_staging, with_objects
from autosearch.synthesis import FolderTextures, add_synthetic

_PACKAGES = ("torch", "timm", "numpy", "optuna", "ray", "faiss-cpu", "faiss-gpu")


@dataclass(frozen=True)
class Inputs:
    """All that a search needs besides its spec, loaded and checked.

    Attributes:
        spec: What to search, with absolute paths, and with the architecture that it builds upon.
        objectives: By name, in the order of the spec.
        runner: With its weights.
        data: Train and validation.
        textures: SHA-256 over the folder of textures, if the spec names one.
        others: Objectives that are installed under no name.
    """

    spec: StudySpec
    objectives: Mapping[str, Objective]
    runner: Runner
    data: SearchData
    textures: str | None = None
    others: tuple[Objective, ...] = ()

    @property
    def known(self) -> dict[str, Objective]:
        """All that can be measured, by name."""
        return registry.objectives(self.others)

    @property
    def directions(self) -> dict[str, str]:
        """Objective name to ``minimize`` or ``maximize``."""
        return {name: objective.direction for name, objective in self.objectives.items()}

    @property
    def cumulative(self) -> frozenset[str]:
        """Objectives that only grow while a trial trains."""
        return frozenset(name for name, its in self.objectives.items() if its.cumulative)

    def guard(self) -> dict[str, Any]:
        """What must stay the same for as long as a study lasts."""
        hashes = {weights["name"]: weights["sha256"] for weights in self.runner.weights()}
        guard = {"data": self.data.info["sha256"], "weights": hashes}
        if any(o.anomalies in ("synthetic", "both") for o in self.objectives.values()):
            # Of anomalies beside validation, which are no part of the data's own hash.
            beside: Any = self.data.info.get("validation_beside")
            guard |= {"synthetic": beside["sha256"]} if beside else {}
        return guard if self.textures is None else guard | {"textures": self.textures}

    def meta(self) -> dict[str, Any]:
        """What a reader of the results must know to trust or repeat them."""
        return {
            "autosearch": __version__,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": self.spec.study.seed,
            "spec_sha256": self.spec.content_hash(),
            "data": self.data.info,
            "weights": self.runner.weights(),
            "textures": self.textures,
            "objectives": {
                o.name: o.described() for o in (*self.objectives.values(), *self.others)
            },
            "packages": {name: _version(name) for name in _PACKAGES if _version(name)},
            "python": platform.python_version(),
            "machine": machine(),
        }

    def post_of(self, canonical: Params) -> frozenset[str]:
        """`Runner.post_of` where the study tries several settings on one fit, else nothing."""
        return self.runner.post_of(canonical) if self.spec.study.post_trials else frozenset()

    def seed_of(self, canonical: Params) -> int:
        """Seed of a trial: see `trial_seed`."""
        return trial_seed(self.spec.study.seed, canonical, self.post_of(canonical))

    def memory(self) -> dict[str, Any] | None:
        """What large pictures and the first configuration take; None where it is little."""
        train, val = self.data.whole or self.data.train, self.data.val
        found = forecast(self.spec, self.runner, val, len(train), len(val))
        return None if found is None else found.to_plain()

    def work(self, trials: int, enough: float) -> float | None:
        """Seconds that so many trials take one after the other; see `forecast.work`."""
        train, val = self.data.train, self.data.val
        return work(self.spec, self.runner, val, len(train), len(val), trials, enough)


def machine() -> dict[str, Any]:
    """The machine that this is, as far as records name it."""
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }


def load_inputs(
    spec: StudySpec,
    progress: Callable[[int, int], None] | None = None,
    runner: type[Runner] | None = None,
    others: tuple[Objective, ...] = (),
) -> Inputs:
    """Load and check everything, so that nothing but a trial itself can fail later.

    Args:
        spec: What to search.
        progress: Called with images read so far and images in all.
        runner: What stands for the spec's runner where it is installed under no name.
        others: Objectives that are installed under no name.

    Raises:
        AutosearchError: The first thing that is wrong, naming it and what is allowed.
    """
    spec = _absolute(spec)
    known = registry.objectives(others)
    objectives = registry.resolve_objectives(spec, known)
    runner_class = runner or registry.load_runner(spec.study.runner)
    _check_read(spec, runner_class)
    _check_tiling(spec, runner_class)
    check_staging(spec, runner_class)
    spec = _with_architecture(spec)
    textures = _textures_sha256(spec)
    runner_name = f"runner {spec.study.runner}"
    check_space(spec.parsed_space, understood(runner_class), runner_name, runner_class.elsewhere)
    _check_probabilities(spec, runner_class, known)
    check_post_trials(spec, runner_class.post_parameters, objectives)
    made = staged_runner(runner_class(spec), spec)
    index = open_index(spec.dataset)
    dataset = settled(index, spec.dataset)
    spec = spec.model_copy(update={"dataset": dataset})
    data = load_search_data(dataset, progress, index)
    if made.supervised:
        data = _of_train(data, data.train.marked)
        _check_learnable(data)
    else:
        data = _of_train(data, ~data.train.labels)
    data = in_part(data, spec.study.fit_images, made.supervised)
    data = with_objects(data, spec, runner_class)
    data = add_synthetic(data, spec.dataset.validation.synthetic)
    check_scorable(data, spec, known)
    return Inputs(spec, objectives, made, data, textures, others)


def reopen(
    folder: StudyFolder,
    progress: Callable[[int, int], None] | None = None,
    runner: type[Runner] | None = None,
    others: tuple[Objective, ...] = (),
    moved: Iterable[Override] = (),
) -> Inputs:
    """Load what a study was made from, to go on with its trials after the search.

    Args:
        folder: The study's folder.
        progress: Called with images read so far and images in all.
        runner: See `load_inputs`.
        others: See `load_inputs`.
        moved: Overrides of the spec that say where its images lie now.

    Raises:
        StudyError: Data or weights have changed since.
        AutosearchError: Anything that `load_inputs` finds wrong.
    """
    inputs = load_inputs(folder.load_spec(moved), progress, runner, others)
    check_data(folder, inputs.data)
    meta, guard = folder.load_meta(), inputs.guard()
    before = {
        "data": meta.get("data", {}).get("sha256"),
        "weights": {weights["name"]: weights["sha256"] for weights in meta.get("weights", ())},
        "textures": meta.get("textures"),
    }
    for name, value in before.items():
        now = guard.get(name)
        if now != value:
            raise StudyError(f"{folder.path}: other {name} now than then: {now}, {value}")
    return inputs


def rebuild(inputs: Inputs, record: TrialRecord) -> Detector:
    """Make the detector of a scored trial as the search made it; it still has to be fitted.

    Raises:
        StudyError: The trial has no values, so nothing says that it can be built.
    """
    _check_scored(record)
    seed = inputs.seed_of(record.canonical)
    return build(inputs.spec, inputs.runner, record.canonical, seed, inputs.data.val)


@contextmanager
def threads_of(record: TrialRecord) -> Iterator[None]:
    """As many threads of torch as the trial had: with others, a training ends elsewhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(record.threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _of_train(data: SearchData, wanted: NDArray[np.bool_]) -> SearchData:
    """The same with some images of the train split, ``(N,)`` bool, and no other."""
    train = data.train.select(wanted)
    found = dict(sorted(Counter(train.types).items()))
    counts = data.info["counts"] | {"train": found}  # type: ignore[operator]
    return replace(data, train=train, info={**data.info, "counts": counts})


def _check_probabilities(
    spec: StudySpec, runner: type[Runner], known: Mapping[str, Objective]
) -> None:
    """Refuse to cut at one half maps whose scale is the detector's own."""
    for key, name in named_figures(spec):
        if known[name].probabilities and not runner.probabilities:
            allowed = f"iou, since maps of {spec.study.runner} are no probabilities"
            raise ConfigError(key, name, allowed)


def _check_learnable(data: SearchData) -> None:
    """Refuse a training split without a defect to a runner that learns from defects."""
    if not data.train.masks.any():
        found = f"{int(data.train.labels.sum())} anomalous training images, no defect on them"
        raise ConfigError("dataset.labelled.train", found, "a larger share, to learn from some")


def _with_architecture(spec: StudySpec) -> StudySpec:
    """Look up what ``backbone.study`` and ``backbone.trial`` name; without them nothing changes.

    Raises:
        ConfigError: There is no such trial.
        StudyError: There is no study, or its trial has no values.
    """
    backbone = spec.backbone
    if backbone.study is None or backbone.trial is None:
        return spec
    path = user_path(backbone.study, "backbone.study").resolve()
    if backbone.architecture is not None and not StudyFolder(path).exists():
        return spec  # Of a study that was moved; what it was made from is known, and compared.
    folder = StudyFolder.open(path)
    records, other = folder.trials.records(), folder.load_spec()
    if backbone.trial >= len(records):
        allowed = f"a trial of {folder.path}, which has {len(records)}, the first being 0"
        raise ConfigError("backbone.trial", backbone.trial, allowed)
    record = records[backbone.trial]
    _check_scored(record, f"{folder.path}: ")
    architecture = ArchitectureSpec(
        runner=other.study.runner,
        params=record.canonical,
        hashes={w["name"]: w["sha256"] for w in folder.load_meta().get("weights", ())},
        weights=other.backbone.weights,
        seed=other.study.seed,
    )
    changed = {"study": str(folder.path), "architecture": architecture}
    return spec.model_copy(update={"backbone": backbone.model_copy(update=changed)})


def _check_scored(record: TrialRecord, where: str = "") -> None:
    if record.status not in SCORED:
        why = f": {record.reason}" if record.reason else ""
        raise StudyError(f"{where}trial {record.number} is {record.status}{why}")


def _check_read(spec: StudySpec, runner: type[Runner]) -> None:
    """Refuse what a person may have set in good faith, but the runner makes no use of."""
    optional = {
        "backbone.study": spec.backbone.study,
        "synthesis.textures": spec.synthesis.textures,
    }
    for key, value in optional.items():
        if value is not None and key not in runner.reads:
            raise ConfigError(key, value, f"null: {spec.study.runner} makes no use of it")


def _check_tiling(spec: StudySpec, runner: type[Runner]) -> None:
    """Refuse a detector a position where it would have to find defects at each to learn from."""
    tiling = spec.dataset.tiling
    if tiling is not None and tiling.banks == "position" and runner.supervised:
        allowed = f"shared: {spec.study.runner} learns from defects, which few positions show"
        raise ConfigError("dataset.tiling.banks", tiling.banks, allowed)


def _textures_sha256(spec: StudySpec) -> str | None:
    """Hash of the folder of textures; a folder on which every trial would fail is refused."""
    folder = spec.synthesis.textures
    if folder is None:
        return None
    try:
        return FolderTextures(Path(folder)).sha256()
    except DataError as error:
        allowed = f"a folder of images, but it {error.problem}"
        raise ConfigError("synthesis.textures", folder, allowed) from None


def _absolute(spec: StudySpec) -> StudySpec:
    """Make paths absolute and name a dataset with a root after its folder."""
    if isinstance(spec.start, StartSpec):
        folders = [str(user_path(name, "start.from").resolve()) for name in spec.start.from_]
        spec = spec.model_copy(update={"start": spec.start.model_copy(update={"from_": folders})})
    if spec.sampler.registry is not None:
        given = user_path(spec.sampler.registry, "sampler.registry")
        sampler = spec.sampler.model_copy(update={"registry": str(given.resolve())})
        spec = spec.model_copy(update={"sampler": sampler})
    if spec.synthesis.textures is not None:
        given = user_path(spec.synthesis.textures, "synthesis.textures")
        folder = str(given.resolve())
        synthesis = spec.synthesis.model_copy(update={"textures": folder})
        spec = spec.model_copy(update={"synthesis": synthesis})
    dataset = spec.dataset
    if isinstance(dataset.region_of_interest, str):
        file = user_path(dataset.region_of_interest, "dataset.region_of_interest").resolve()
        dataset = dataset.model_copy(update={"region_of_interest": str(file)})
        spec = spec.model_copy(update={"dataset": dataset})
    if dataset.foreground is not None:
        given = user_path(dataset.foreground, "dataset.foreground")
        dataset = dataset.model_copy(update={"foreground": str(given.resolve())})
        spec = spec.model_copy(update={"dataset": dataset})
    if dataset.root is None:
        return spec
    root = user_path(dataset.root, "dataset.root").resolve()
    name = root.stem if dataset.name == "demo" else dataset.name
    changed = dataset.model_copy(update={"root": str(root), "name": name})
    return spec.model_copy(update={"dataset": changed})


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
