"""One AutoPatch trial in parts, beside a plain implementation of the same trial.

    python benchmarks/trial.py --data ROOT --threads 1

Both sides see the same images and the same weights, in one process. The plain side does what a
straightforward script does, as the paper's reference: layers as they were trained, channels first,
FAISS's flat index, regions and their weights found anew, scikit-learn's metrics, and the test
split scored in every trial as well. The other side is one call of `TrialEvaluator`, which has no
test split. Shown are the ratio of whole trials, and that with validation alone on both sides.

The nearest-neighbour step is also set against the matrix product of this machine, counting all
pairs of patches: above 100 %, bounds have spared more than they cost. How much they spare depends
on the features; those of random weights, the default, are a hard case.

Look at the plain side's share of the product too: the OpenBLAS in FAISS's wheel does not know
every processor, and where it falls back to its oldest code, most of the ratio is owed to that.
Naming a processor for it, as by OPENBLAS_CORETYPE=SKYLAKEX for AVX-512 (HASWELL for AVX2), shows
what remains.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import faiss
import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from autosearch_runners.autopatch import architecture_of
from nearest_neighbour import peak_gflops
from rich.console import Console
from rich.table import Table
from skimage.measure import label
from sklearn.metrics import average_precision_score, roc_auc_score
from threadpoolctl import threadpool_limits
from torch import Tensor

from autosearch.backbones import (
    MODEL_NAMES,
    FeatureExtractor,
    OFAMobileNetV3,
    PatchFeatures,
    nearest_neighbour_flops,
    profile,
    resolve,
)
from autosearch.contracts import Assignment, registry
from autosearch.data import NORMAL, ImageSet, load_test_set
from autosearch.memory import MemoryBank
from autosearch.spec import Params, load_spec
from autosearch.study import Inputs, TrialEvaluator, load_inputs

PARTS = ("build", "features", "bank", "search", "metrics")
PLAIN_BATCH = 32
LARGEST = {"width": 1.2} | {
    f"stage{s}.{name}": value
    for s in range(5)
    for name, value in (("kernel_size", 7), ("expand_ratio", 6))
}
ARCHITECTURES: dict[str, Params] = {
    "block 6": {"stage3.extraction_block": None},
    "blocks 6, 14 (default)": {},
    "blocks 6, 12, 15, width 1.2, k 7, e 6": LARGEST
    | {"stage2.extraction_block": 12, "stage3.extraction_block": 15},
    "blocks 2, 6": {"stage0.extraction_block": 2, "stage3.extraction_block": None},
}
SLOW_ARCHITECTURES: dict[str, Params] = {
    "blocks 2, 6, 12, 15, width 1.2, k 7, e 6": LARGEST
    | {
        "stage0.extraction_block": 2,
        "stage2.extraction_block": 12,
        "stage3.extraction_block": 15,
    },
}
Seconds = Counter[str]


def main() -> None:
    """Print one table per architecture."""
    options = _options()
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    threadpool_limits(options.threads)  # The OpenBLAS in FAISS's wheel asks nobody else.
    inputs = load_inputs(
        load_spec(
            registry.find_space("autopatch"),
            [
                f"dataset.root={options.data}",
                f"dataset.category={options.category}",
                f"backbone.weights={options.weights}",
                "resources.gpu=0",
                # As the plain side: images and masks as squares, regions of the resized masks.
                "dataset.image_size=224",
                "dataset.fit=stretch",
                "dataset.regions=resized",
                # It knows real defects alone.
                "dataset.validation.synthetic=null",
            ],
        )
    )
    test, _ = load_test_set(inputs.spec.dataset)
    evaluator = TrialEvaluator(inputs.spec, inputs.runner, inputs.data)
    console = Console(soft_wrap=True)
    console.print(__doc__.split("\n\n", 2)[2].strip() if __doc__ else "")
    console.print(
        f"\n{options.category}: {len(inputs.data.train)} train, {len(inputs.data.val)} "
        f"validation, {len(test)} test images. {options.threads} threads, "
        f"torch {torch.__version__}, faiss {faiss.__version__} "
        f"(OPENBLAS_CORETYPE={os.environ.get('OPENBLAS_CORETYPE', '')}), "
        f"scikit-learn {sklearn.__version__}. "
        f"Load of the machine: {os.getloadavg()[0]:.1f}, best of {options.repeats}.\n"
    )
    _our_trial(evaluator, inputs, ARCHITECTURES["block 6"])
    chosen = ARCHITECTURES | (SLOW_ARCHITECTURES if options.slow else {})
    for name, params in chosen.items():
        if options.only and options.only not in name:
            continue
        console.print(_compare(name, params, inputs, test, evaluator, options.repeats))


def _options() -> argparse.Namespace:
    near = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("AUTOSEARCH_TEST_DATA", near)) / "magnetic_tile"
    parser = argparse.ArgumentParser(description="Time one AutoPatch trial in parts.")
    parser.add_argument("--data", type=Path, default=root, help="dataset root, MVTec AD layout")
    parser.add_argument("--category", default="magnetic_tile_mini")
    parser.add_argument("--weights", default="random", help="as in a spec's backbone.weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", default="", help="architectures whose name contains this")
    parser.add_argument("--slow", action="store_true", help="also one of 312 channels at 1/4")
    return parser.parse_args()


def _compare(
    name: str,
    params: Params,
    inputs: Inputs,
    test: ImageSet,
    evaluator: TrialEvaluator,
    repeats: int,
) -> Table:
    ours = plain_val = plain_test = Seconds({"total": 10**9})
    our_rwap = plain_rwap = float("nan")
    peak, pairs = 0.0, 0
    for _ in range(repeats):
        peak = max(peak, peak_gflops())
        seconds, our_rwap, pairs = _our_trial(evaluator, inputs, params)
        ours = min(ours, seconds, key=_total)
        on_val, on_test, plain_rwap = _plain_trial(inputs, params, test)
        if _total(on_val + on_test) < _total(plain_val + plain_test):
            plain_val, plain_test = on_val, on_test
    table = Table(title=name, title_justify="left")
    for heading in ("seconds", "plain, validation", "plain, test", "autosearch", "times faster"):
        table.add_column(heading, justify="left" if heading == "seconds" else "right")
    for part in (*PARTS, "other", "total"):
        row = [plain_val[part], plain_test[part], ours[part]]
        ratio = f"{(row[0] + row[1]) / row[2]:.1f}" if row[2] and part != "other" else ""
        if part == "total":
            ratio += f" ({row[0] / row[2]:.1f} on validation alone)"
        table.add_row(part, *(f"{value:.3f}" for value in row), ratio)
    speed, plain_speed = (1e-9 * pairs / side["search"] for side in (ours, plain_val))
    table.caption = (
        f"rwAP {our_rwap:.6f}, plain {plain_rwap:.6f}, difference {abs(our_rwap - plain_rwap):.1e}"
        f"\nsearch: {speed:.0f} GFLOP/s over all pairs, {speed / peak:.0%} of sgemm's {peak:.0f}"
        f"; plain: {plain_speed:.0f}, {plain_speed / peak:.0%}"
    )
    return table


def _total(seconds: Seconds) -> float:
    return seconds["total"]


@contextmanager
def _timed(seconds: Seconds, part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[part] += time.perf_counter() - start  # type: ignore[assignment]


def _our_trial(
    evaluator: TrialEvaluator, inputs: Inputs, params: Params
) -> tuple[Seconds, float, int]:
    """Seconds by part, rwAP and FLOPs of the nearest-neighbour step of one real trial."""
    seconds, pairs = Seconds(), 0

    def timed(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any) -> Any:
            nonlocal pairs
            with _timed(seconds, part):
                result = method(self, *args)
            if part == "search":
                pairs += nearest_neighbour_flops(len(result), len(self), self.dimension)
            return result

        return call

    watched = (
        ("features", PatchFeatures, "forward"),
        ("bank", MemoryBank, "add"),
        ("search", MemoryBank, "search"),
    )
    with ExitStack() as stack:
        for part, owner, name in watched:
            stack.enter_context(patch.object(owner, name, timed(part, getattr(owner, name))))
        with _timed(seconds, "total"):
            canonical = inputs.runner.canonical(params)
            outcome = evaluator(Assignment(0, params, canonical, 0))
    seconds["build"] = outcome.seconds["build"]  # type: ignore[assignment]
    seconds["metrics"] = outcome.seconds["measure"]  # type: ignore[assignment]
    seconds["other"] = seconds["total"] - sum(seconds[part] for part in PARTS)
    return seconds, outcome.values["rwap"], pairs


def _plain_trial(inputs: Inputs, params: Params, test: ImageSet) -> tuple[Seconds, Seconds, float]:
    """Seconds on train and validation, seconds on test, rwAP on validation."""
    canonical = inputs.runner.canonical(params)
    architecture = architecture_of(canonical)
    name = next(name for name, width in MODEL_NAMES.items() if width == architecture.width)
    # Weights are loaded once per study on both sides.
    state = resolve(name, inputs.spec.backbone.weights, inputs.spec.study.seed).state
    supernet = OFAMobileNetV3(architecture.width, state)
    sizes = [int(canonical.get(f"stage{s}.patch_size") or 0) for s in range(5)]
    on_val, on_test = Seconds(), Seconds()
    with _timed(on_val, "total"), torch.no_grad():
        with _timed(on_val, "build"):
            network = supernet.subnet(architecture)
            profile(network)
        patch_sizes = [size for size in sizes if size]
        with _timed(on_val, "features"):
            patches, _ = _plain_features(network, patch_sizes, inputs.data.train)
        with _timed(on_val, "bank"):
            index = faiss.IndexFlatL2(patches.shape[1])
            index.add(patches.numpy())
        rwap = _plain_scores(network, patch_sizes, index, inputs.data.val, on_val)
    with _timed(on_test, "total"), torch.no_grad():
        _plain_scores(network, patch_sizes, index, test, on_test)
    return on_val, on_test, rwap


def _plain_features(
    network: FeatureExtractor, sizes: list[int], images: ImageSet
) -> tuple[Tensor, int]:
    """``(N * h * w, D)`` patches, and ``h``."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (network.mean, network.std))
    rows, side = [], 0
    for start in range(0, len(images), PLAIN_BATCH):
        batch = torch.from_numpy(images.pixels[start : start + PLAIN_BATCH].copy())
        maps = network((batch - mean) / std)
        side = max(m.shape[-1] for m in maps)
        pooled = [F.avg_pool2d(m, p, 1, (p - 1) // 2) for m, p in zip(maps, sizes, strict=True)]
        resized = [F.interpolate(m, (side, side), mode="bilinear") for m in pooled]
        rows.append(torch.cat(resized, 1).permute(0, 2, 3, 1).flatten(0, 2))
    return torch.cat(rows).contiguous(), side


def _plain_scores(
    network: FeatureExtractor,
    sizes: list[int],
    index: faiss.IndexFlatL2,
    images: ImageSet,
    seconds: Seconds,
) -> float:
    """Score a split and measure it; the result is its rwAP."""
    with _timed(seconds, "features"):
        queries, side = _plain_features(network, sizes, images)
    with _timed(seconds, "search"):
        distances, _ = index.search(queries.numpy(), 1)
        grid = torch.from_numpy(distances).view(len(images), 1, side, side)
        maps = F.interpolate(grid, images.masks.shape[-2:], mode="bilinear")[:, 0].numpy()
    with _timed(seconds, "metrics"):
        truth, scores = images.masks.ravel(), maps.ravel()
        weights = _plain_region_weights(images).ravel()
        rwap = float(average_precision_score(truth, scores, sample_weight=weights))
        average_precision_score(truth, scores)
        roc_auc_score(truth, scores)
    return rwap


def _plain_region_weights(images: ImageSet) -> np.ndarray:
    """Weight of every pixel: mean area / area, times mean regions per type / those of its type."""
    components = [label(mask, connectivity=2) for mask in images.masks]
    counts = Counter(dict.fromkeys(set(images.types) - {NORMAL}, 0))
    areas = []
    for kind, regions in zip(images.types, components, strict=True):
        found = np.bincount(regions.ravel())[1:]
        areas.extend(found)
        if kind != NORMAL:
            counts[kind] += len(found)
    per_type = sum(counts.values()) / len(counts)
    weights = np.ones(images.masks.shape)
    for kind, regions, weight in zip(images.types, components, weights, strict=True):
        for region in range(1, regions.max() + 1):
            inside = regions == region
            weight[inside] = np.mean(areas) / inside.sum() * per_type / counts[kind]
    return weights


if __name__ == "__main__":
    main()
