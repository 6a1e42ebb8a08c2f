"""What a graphics card is good for: every part of a search on it, beside the CPU in the same run.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --small    (all code paths but the card's own)

Takes about five minutes, needs no data and no downloads (weights are bundled or random), and
prints a table in Markdown. Without CUDA it says so and ends with 1.

- Nearest neighbours: torch, and faiss-gpu where it is installed, of patches that no bound spares.
- Features of 32 images of 224 pixels, of the default backbone and of a large one.
- Trials of the space `autopatch` on the demo: one process on the CPU, on the card, and two
  processes that share the card; seconds are those of all trials.
- A step of GLASS and of Synth4Seg, also with mixed precision: of GLASS its own parameter
  (`mixed_precision`), of Synth4Seg, which has none, bfloat16 around the whole step. A step is the
  difference between a longer and a shorter training, so that what comes before does not count.

What both sides found is compared. A training draws its noise on the device that it runs on, so
that its loss may differ more than a distance does. A difference beyond what is allowed ends
with 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np
import optuna
import torch
from autosearch_runners.synth4seg.networks import make_unet
from autosearch_runners.synth4seg.training import BilevelSettings, BilevelTrainer
from bilevel_step import Made, squares
from torch import Tensor

from autosearch import spaces
from autosearch.backbones import (
    DEFAULT_BACKBONE,
    PatchFeatures,
    TimmBackbone,
    optimise_for_inference,
    resolve,
)
from autosearch.contracts import Assignment, TrialContext, trial_seed
from autosearch.errors import Infeasible
from autosearch.memory import available_backends, make_memory_bank
from autosearch.spec import load_spec
from autosearch.study import Inputs, TrialEvaluator, load_inputs

EXACT, ROUNDED, DRAWN, TRIAL = 1e-3, 2e-2, 0.15, 2e-2
"""Relative differences that are allowed: of distances; of features, which a card multiplies with
fewer digits; of losses, whose noise is drawn anew; and of rwAP, absolute."""

_PROCESSES = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: Was done.
        how: On which device, by what.
        cpu: Seconds on the CPU.
        seconds: In this way.
        differ: How far results are from those on the CPU.
        allowed: How far they may be.
    """

    what: str
    how: str
    cpu: float
    seconds: float
    differ: float
    allowed: float

    def told(self) -> str:
        """As a line in Markdown."""
        ratio = f"{self.cpu / self.seconds:.1f}" if self.seconds > 0 else ""
        times = (_seconds(self.cpu), _seconds(self.seconds), ratio)
        return f"| {self.what} | {self.how} | {' | '.join(times)} | {self.differ:.0e} |"


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        neighbours: Rows, queries and dimension of every search.
        images: Whose features are computed.
        side: Of images in pixels.
        backbones: Whose features they are.
        trials: How many.
        epochs: More of a longer training than of a shorter one.
        steps: Of an epoch.
        width: Of GLASS's vectors and of Synth4Seg's decoder.
        terms: Of Synth4Seg's series.
        warm: Whether everything is done once before it is timed.
    """

    neighbours: tuple[tuple[int, int, int], ...]
    images: int
    side: int
    backbones: tuple[str, ...]
    trials: int
    epochs: int
    steps: int
    width: int
    terms: int
    warm: bool


Training = Callable[[Sizes, str, bool, int], tuple[float, float]]
"""Of so many epochs, on a device, in mixed precision or not: its first loss and its seconds."""

FULL = Sizes(
    ((150_528, 65_856, 136), (600_000, 15_680, 64)), 32, 224,
    (DEFAULT_BACKBONE, "wide_resnet50_2"), 8, 2, 3, 256, 3, True,
)  # fmt: skip
SMALL = Sizes(((3000, 500, 16),), 2, 32, (DEFAULT_BACKBONE,), 2, 1, 1, 32, 0, False)

_BATCH = 8
"""Of GLASS: images a step."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: dry run")
    parser.add_argument("--small", action="store_true", help="so little that times say nothing")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "torch finds no CUDA device here: this script compares a card with the CPU. "
            "For a dry run without one: --device cpu --small"
        )
    print(_about(given.device), "\n", sep="", flush=True)
    print("| what | how | CPU | here | times faster | differ |\n|---|---|---|---|---|---|")
    beyond = []
    for part in given.parts:
        for row in PARTS[part](SMALL if given.small else FULL, given.device):
            print(row.told(), flush=True)
            # Neither is a difference that is no number.
            if not row.differ <= row.allowed:
                beyond.append(f"{row.what}, {row.how}: {row.differ:.1e}, allowed {row.allowed:g}")
    if beyond:
        sys.exit("\n".join(["", "Results differ more than they may:", *beyond]))


def neighbours(sizes: Sizes, device: str) -> Iterator[Row]:
    """Search whole banks of vectors without structure."""
    extra = "faiss-gpu" if device == "cuda" else "faiss-cpu"
    for rows, queries, dimension in sizes.neighbours:
        generator = torch.Generator().manual_seed(0)
        bank = torch.randn(rows, dimension, generator=generator)
        asked = torch.randn(queries, dimension, generator=generator)
        expected, cpu = _searched("torch", "cpu", bank, asked)
        what = f"neighbours: {queries:,} among {rows:,}, {dimension} numbers"
        for backend in ("torch", *({extra} & set(available_backends(device)))):
            found, seconds = _searched(backend, device, bank, asked)
            differ = float(((found - expected).abs() / expected).max())
            yield Row(what, f"{backend}, {device}", cpu, seconds, differ, EXACT)


def _searched(backend: str, device: str, bank: Tensor, asked: Tensor) -> tuple[Tensor, float]:
    made = make_memory_bank(backend, bank.shape[1], device)
    made.add(bank)
    queries = asked.to(device)
    made.search(queries[:64])
    found, seconds = _timed(lambda: made.search(queries), device)
    return found.cpu(), seconds


def features(sizes: Sizes, device: str) -> Iterator[Row]:
    """Patch features of two levels, four images at a time on a CPU, all at once on a card."""
    images = torch.rand(sizes.images, 3, sizes.side, sizes.side)
    for name in sizes.backbones:
        source = "bundled" if name == DEFAULT_BACKBONE else "random"
        extractor = TimmBackbone(name, (2, 3), resolve(name, source, 0).state).eval()
        results = []
        for where in ("cpu", device):
            network = PatchFeatures(optimise_for_inference(extractor), (3, 3)).to(where).eval()
            found, seconds = _timed(lambda n=network, w=where: _passes(n, images, w), where, True)
            results.append((found.cpu(), seconds))
        (expected, cpu), (found, seconds) = results
        differ = float((found - expected).abs().max() / expected.abs().max())
        what = f"features: {sizes.images} images of {sizes.side} pixels, {name}"
        yield Row(what, f"torch, {device}", cpu, seconds, differ, ROUNDED)


@torch.inference_mode()
def _passes(network: PatchFeatures, images: Tensor, device: str) -> Tensor:
    parts = torch.split(images, 4 if device == "cpu" else len(images))
    return torch.cat([network(part.to(device)) for part in parts])


def trials(sizes: Sizes, device: str) -> Iterator[Row]:
    """Whole trials, in processes that share what there is."""
    expected, cpu = _together(sizes, "cpu", 1)
    what = f"trials: {sizes.trials} of autopatch on the demo"
    for processes in (1, _PROCESSES):
        found, seconds = _together(sizes, device, processes)
        differ = float(np.abs(np.array(found) - np.array(expected)).max())
        how = f"{device}, {'one process' if processes == 1 else f'{processes} processes'}"
        yield Row(what, how, cpu, seconds, differ, TRIAL)


def _together(sizes: Sizes, device: str, processes: int) -> tuple[list[float], float]:
    """RwAP of all trials, and seconds from when every process was ready to the end of the last."""
    context = get_context("spawn")
    barrier = context.Barrier(processes)
    numbers = list(range(sizes.trials))
    shares = [(numbers[i::processes], sizes, device) for i in range(processes)]
    with context.Pool(processes, _meet, (barrier,)) as pool:
        # One share a process: nobody gets past the barrier before all have begun.
        found = pool.map(_share, shares, chunksize=1)
    values = {number: rwap for told, _ in found for number, rwap in told}
    return [values[number] for number in numbers], max(seconds for _, seconds in found)


_barrier: Any = None


def _meet(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _share(share: tuple[list[int], Sizes, str]) -> tuple[list[tuple[int, float]], float]:
    """Number and rwAP of some trials, and seconds of all of them."""
    numbers, sizes, device = share
    inputs = _inputs("autopatch", sizes.side, device == "cuda")
    evaluator = TrialEvaluator(inputs.spec, inputs.runner, inputs.data)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    known = []
    while len(known) < sizes.trials:
        drawn = inputs.spec.parsed_space.suggest(study.ask())
        # Others leave nothing of the small maps of a dry run.
        params = {k: 3 if k.endswith("patch_size") else value for k, value in drawn.items()}
        try:
            canonical = inputs.runner.canonical(params)
        except Infeasible:
            continue
        known.append(Assignment(len(known), params, canonical, trial_seed(0, canonical)))
    if sizes.warm:
        evaluator(known[0])
    _barrier.wait()
    start = time.perf_counter()
    found = [(number, evaluator(known[number]).values["rwap"]) for number in numbers]
    return found, time.perf_counter() - start


def glass(sizes: Sizes, device: str) -> Iterator[Row]:
    """Steps of GLASS in single and in mixed precision."""
    return _steps("GLASS", _glass, sizes, device)


def synth4seg(sizes: Sizes, device: str) -> Iterator[Row]:
    """Steps of Synth4Seg likewise."""
    return _steps("Synth4Seg, outer step included", _synth4seg, sizes, device)


def _steps(name: str, method: Training, sizes: Sizes, device: str) -> Iterator[Row]:
    expected, cpu = _step(method, sizes, "cpu", False)
    for mixed in (False, True):
        loss, seconds = _step(method, sizes, device, mixed)
        how = f"{device}, {'mixed precision' if mixed else 'float32'}"
        differ = abs(loss - expected) / abs(expected)
        yield Row(f"step: {name}", how, cpu, seconds, differ, DRAWN)


def _step(method: Training, sizes: Sizes, device: str, mixed: bool) -> tuple[float, float]:
    """Loss of the first epoch, and seconds of a step."""
    if sizes.warm:
        method(sizes, device, mixed, 1)
    loss, short = method(sizes, device, mixed, 1)
    _, long = method(sizes, device, mixed, 1 + sizes.epochs)
    return loss, max(0.0, long - short) / (sizes.epochs * sizes.steps)


def _glass(sizes: Sizes, device: str, mixed: bool, epochs: int) -> tuple[float, float]:
    """Loss of the first epoch, and seconds of the whole training."""
    inputs = _inputs("glass", sizes.side, False)
    seen = inputs.data.train
    wanted = np.arange(len(seen)) < _BATCH * sizes.steps
    params = {
        "backbone": DEFAULT_BACKBONE, "epochs": epochs, "mixed_precision": mixed, "batch": _BATCH,
        "embed_dim": 2 * sizes.width, "disc_hidden": 2 * sizes.width,
    }  # fmt: skip
    canonical = inputs.runner.canonical(params)
    size = (sizes.side, sizes.side)
    detector: Any = inputs.runner.build(canonical, TrialContext(0, device, size))
    _, seconds = _timed(lambda: detector.fit(seen.select(wanted)), device)
    return detector.losses[0].total, seconds


def _synth4seg(sizes: Sizes, device: str, mixed: bool, epochs: int) -> tuple[float, float]:
    """The same; each inner step is followed by an outer one."""
    settings = BilevelSettings(
        epochs=epochs, images_per_epoch=sizes.steps, batch=1, warmup_fraction=0.0,
        checkpoint="last", terms=sizes.terms,
    )  # fmt: skip
    network = make_unet("tf_efficientnet_lite0", None, seed=0, width=sizes.width)
    side = 32 * max(1, sizes.side // 64)
    images = squares(4, side, seed=0)
    trainer = BilevelTrainer(network, None, settings, 0, device)

    def fit() -> None:
        # Weights change within: what was made of them for one step must not be kept for the next.
        with torch.autocast(device, torch.bfloat16, enabled=mixed, cache_enabled=False):
            for _ in trainer.run(Made(2, side), images[0], *images):
                pass

    _, seconds = _timed(fit, device)
    return trainer.curve[0].inner, seconds


@cache
def _inputs(space: str, side: int, gpu: bool) -> Inputs:
    """Of the demo, with weights that need no network."""
    asked = [f"dataset.image_size={side}", "backbone.weights=bundled"]
    asked += [] if gpu else ["resources.gpu=0"]
    return load_inputs(load_spec(spaces()[space], asked))


PARTS = {
    "neighbours": neighbours, "features": features, "trials": trials, "glass": glass,
    "synth4seg": synth4seg,
}  # fmt: skip


def _timed(call: Callable[[], T], device: str, warm: bool = False) -> tuple[T, float]:
    """A result and the seconds it took; called once before if it must warm up."""
    if warm:
        call()
    _wait(device)
    start = time.perf_counter()
    found = call()
    _wait(device)
    return found, time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _about(device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else "a dry run: no card"
    return f"{name}; {torch.get_num_threads()} CPU threads, torch {torch.__version__}."


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"


if __name__ == "__main__":
    main()
