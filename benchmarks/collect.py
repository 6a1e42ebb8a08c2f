"""Fit many configurations once on several datasets, and keep what each says of every image.

    python benchmarks/collect.py --data ../shared/data/magnetic_tile:magnetic_tile --out /data/pool

Training never sees a defect, so a configuration is fitted once, whichever defects a search were
to validate on: `choice.py` and `portfolio.py` draw them from what is kept here. Configurations are
the ones that the space begins with, what PatchCore fixes, and draws from the space, half of them
with a network and levels that are known to work. Stopped and called again, it goes on.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import yaml
from studies import cores, data_section

from autosearch import spaces
from autosearch.contracts import canonical_key, trial_seed
from autosearch.data import ImageSet, load_test_set
from autosearch.errors import Infeasible
from autosearch.files import write_atomic
from autosearch.spec import Params, StudySpec, load_spec
from autosearch.study import Inputs, build, load_inputs, maps_of

NETWORKS: dict[str, Params] = {
    "largest": {"kernel_size": 7, "expand_ratio": 6},
    "middle": {"kernel_size": 5, "expand_ratio": 4},
    "smallest": {"kernel_size": 3, "expand_ratio": 3},
}
LEVELS: tuple[dict[int, int], ...] = (
    {1: 6, 3: 15},
    {0: 2, 1: 6, 3: 15},
    {0: 2, 1: 6},
    {0: 2, 1: 6, 2: 11},
    {1: 6, 2: 11},
    {1: 8, 3: 16},
    {0: 4, 1: 8, 3: 16},
    {1: 6},
)
"""Stage to extraction block."""

MEASURED = 160
"""Shorter side in pixels of the maps that are kept."""

MOST_NORMALS, MOST_MADE, MOST_OF_A_TYPE = 40, 24, 12
"""Images of validation and test that are kept, of anomalies at most so many of a type."""


def fixed(levels: dict[int, int], network: Params, width: float = 1.0, patch: int = 3) -> Params:
    """A network with patches of one size at some levels, and a bank of all."""
    params: Params = {"width": width, "bn_recalibration": False}
    for stage in range(5):
        params |= {f"stage{stage}.{name}": value for name, value in network.items()}
        params |= {f"stage{stage}.extraction_block": levels.get(stage)}
        params |= {f"stage{stage}.patch_size": patch}
    return params


def configurations(spec: StudySpec, number: int, seed: int) -> Iterator[tuple[str, Params]]:
    """Names and parameters: fixed choices, what the space begins with, then draws."""
    bank: Params = {"image_size": 224, "coreset_method": "kcenter"}
    for width in (1.0, 1.2):
        layers = fixed(LEVELS[0], NETWORKS["largest"], width)
        yield f"fixed-{width}", layers | bank | {"coreset_ratio": 0.1}
    yield "fixed-random", layers | bank | {"coreset_ratio": 0.1, "coreset_method": "random"}
    for place, start in enumerate(spec.configurations):
        yield f"start-{place}", dict(start)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    rng = np.random.default_rng(seed)
    for place in range(number):
        params = spec.parsed_space.suggest(study.ask())
        if place % 2:
            names = list(NETWORKS)
            levels = LEVELS[rng.integers(len(LEVELS))]
            network = NETWORKS[names[rng.integers(len(names))]]
            width, patch = (1.0, 1.2)[rng.integers(2)], (1, 3, 3, 5)[rng.integers(4)]
            params |= fixed(levels, network, width, patch)
        yield f"drawn-{seed}-{place}", params


def near(
    spec: StudySpec, parents: list[Params], number: int, seed: int
) -> Iterator[tuple[str, Params]]:
    """The network of one of several configurations, the bank of another, some of it drawn anew."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    rng = np.random.default_rng([11, seed])
    for place in range(number):
        one, other = (parents[i] for i in rng.integers(len(parents), size=2))
        drawn = spec.parsed_space.suggest(study.ask())
        params = {**drawn}
        for name in drawn:
            parent = one if name.startswith("stage") or name == "width" else other
            changed = rng.random() < (0.05 if parent is one else 0.2)
            if name in parent and not changed:
                params[name] = parent[name]
        # Which of the two a bank has depends on its window.
        size = {"bank_rows": int(np.exp(rng.uniform(np.log(300), np.log(10_000))))}
        if params["window"] is not None:
            size = {"rows_per_place": int(np.exp(rng.uniform(np.log(3), np.log(30))))}
        yield f"near-{seed}-{place}", {**size, **params}


def main() -> None:
    """Fill a folder for each dataset."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+", metavar="ROOT:CATEGORY")
    parser.add_argument("--space", default="autopatch_plus")
    parser.add_argument("--number", type=int, default=100, help="configurations drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--near", type=Path, help="YAML of configurations to draw from instead")
    parser.add_argument("--normals", type=int, default=100, help="training images at most")
    parser.add_argument("--out", required=True, type=Path)
    given = parser.parse_args()
    jobs: list[tuple[str, str, Params]] = []
    spec = load_spec(spaces()[given.space])
    wanted = configurations(spec, given.number, given.seed)
    if given.near:
        parents = yaml.safe_load(given.near.read_text())
        wanted = near(spec, parents, given.number, given.seed)
    for name, params in wanted:
        jobs += [(data, name, params) for data in given.data]
    context = get_context("spawn")
    with ProcessPoolExecutor(cores(), context, torch.set_num_threads, (1,)) as pool:
        same = [(given.space, given.normals, given.out)] * len(jobs)
        done = pool.map(_one, jobs, same)
        for number, line in enumerate(done, 1):
            print(f"{number} of {len(jobs)}: {line}", flush=True)


def folder_of(out: Path, data: str) -> Path:
    """Where a dataset's files are."""
    return out / data.rpartition(":")[2]


@cache
def loaded(space: str, data: str, normals: int) -> tuple[Inputs, ImageSet, ImageSet, ImageSet]:
    """A dataset's inputs; training images, validation images, test images, few of each."""
    asked: list[tuple[str, Any]] = [(f"dataset.{k}", v) for k, v in data_section(data).items()]
    asked += [("dataset.validation.real_per_type", 0), ("dataset.evaluation_size", MEASURED)]
    asked += [("dataset.validation.synthetic", {"kind": "both"})]
    inputs = load_inputs(load_spec(spaces()[space], asked))
    train = inputs.data.train
    wanted = np.zeros(len(train), dtype=bool)
    wanted[np.linspace(0, len(train) - 1, min(normals, len(train))).astype(int)] = True
    test, _ = load_test_set(inputs.spec.dataset)
    val = inputs.data.val
    return inputs, train.select(wanted), val.select(_few(val)), test.select(_few(test))


def _few(images: ImageSet) -> np.ndarray:
    """Some images of every type, evenly spread."""
    chosen = np.zeros(len(images), dtype=bool)
    for kind in set(images.types):
        own = np.flatnonzero([one == kind for one in images.types])
        most = MOST_OF_A_TYPE if images.labels[own[0]] else MOST_NORMALS
        most = MOST_MADE if images.synthetic[own[0]] else most
        chosen[own[np.linspace(0, len(own) - 1, min(most, len(own))).astype(int)]] = True
    return chosen


def _one(job: tuple[str, str, Params], same: tuple[str, int, Path]) -> str:
    (data, name, params), (space, normals, out) = job, same
    path = folder_of(out, data) / f"{name}.npz"
    if path.exists():
        return f"{path.parent.name} {name} is there"
    inputs, train, val, test = loaded(space, data, normals)
    told: dict[str, Any] = {"name": name, "params": params}
    arrays: dict[str, np.ndarray] = {}
    try:
        canonical = inputs.runner.canonical(params)
        told |= {"canonical": canonical, "key": canonical_key(canonical)}
        detector = build(inputs.spec, inputs.runner, canonical, trial_seed(0, canonical), val)
        start = time.perf_counter()
        detector.fit(train)
        told["fit_seconds"] = time.perf_counter() - start
        start = time.perf_counter()
        arrays["val"] = maps_of(detector, val)
        arrays["test"] = maps_of(detector, test)
        told["score_seconds"] = time.perf_counter() - start
        cost = detector.cost()
        told |= {"gflops": cost.flops / 1e9, "bank_mb": cost.bank_bytes / 1e6}
        told |= {"total_gflops": (cost.flops + cost.search_flops) / 1e9}
        told |= {"top_share": detector.top_share, **detector.figures()}
    except Infeasible as error:
        told["infeasible"] = str(error)
    # Half precision after each map's own range: what counts is their order.
    kept = {key: maps.astype(np.float16) for key, maps in _scaled(arrays).items()}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, told=np.array(json.dumps(told)), **kept)
    write_atomic(path, content.getvalue())
    return f"{path.parent.name} {name} {told.get('infeasible', '')}"


def _scaled(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Maps less their median, by the spread of those of validation."""
    if not arrays:
        return {}
    middle, high = np.quantile(arrays["val"], [0.5, 0.999])
    return {name: (maps - middle) / (high - middle or 1) for name, maps in arrays.items()}


if __name__ == "__main__":
    main()
