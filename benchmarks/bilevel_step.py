"""What an outer step of Synth4Seg's training costs, as a multiple of an inner step.

    python benchmarks/bilevel_step.py

Trains a U-Net with an outer step after every inner one, by each method and for several lengths K
of its series, and without outer steps. All see the same images, which are made beforehand. The
difference is the outer step. Times are processor time on one thread, which other programs on the
machine disturb less than time on the wall; validation, which closes the epoch, is taken off.

Memory is how far the most that a process held lies above what it held before the training. Each
row is measured in a process of its own. The last row takes the series as it is often written, with
``backward(create_graph=True)``: gradients that hold their graph, which holds them, are never
freed. That both ways find hypergradients of the same length is checked, unless the one was cut
short, as the other never is.

A series that is cut short takes less time, so the share of such steps stands beside. Linux only.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autosearch_runners.synth4seg.hypergradients import (
    METHODS,
    Hypergradient,
    HypergradientSettings,
    Loss,
    Weights,
)
from autosearch_runners.synth4seg.networks import make_unet
from autosearch_runners.synth4seg.sources import SOURCES, Batch, Location
from autosearch_runners.synth4seg.training import BilevelSettings, BilevelTrainer, Epoch
from autosearch_runners.synth4seg.validation import validate
from numpy.typing import NDArray
from parts import circumstances, parse_options
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

TOLERANCE = 1e-3
"""Largest relative difference between hypergradients that are found both ways."""
KEPT = "neumann, graphs kept"

State = dict[str, NDArray[Any]]
"""Of a network, in a form that outlives the process it comes from."""


@dataclass(frozen=True)
class Row:
    """A training.

    Attributes:
        seconds: Of a step, an outer one included if there is one.
        memory: In bytes.
        cut: Share of the outer steps whose series was cut short.
        length: Of the hypergradient, a mean over steps.
    """

    seconds: float
    memory: int
    cut: float
    length: float


class Made:
    """Bright squares on noise, the same ones at every step.

    Args:
        batch: Images of each source.
        size: Their side in pixels.
    """

    names = SOURCES

    def __init__(self, batch: int, size: int) -> None:
        images, masks = squares(len(self.names) * batch, size, seed=0)
        shape = len(self.names), batch
        targets = masks.view(*shape, size, size)
        self._batch = Batch(
            images.view(*shape, 3, size, size), targets, targets, images[:batch].clone()
        )

    def draw(self, rng: np.random.Generator, location: Location | None = None) -> Batch:
        """See `Sources.draw`."""
        return self._batch


def squares(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images ``(N, 3, S, S)`` with one anomaly each, and masks ``(N, S, S)``."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.3, 0.6, (count, 3, size, size)).astype(np.float32)
    masks = np.zeros((count, size, size), np.float32)
    for image, mask in zip(images, masks, strict=True):
        row, column = rng.integers(0, size - size // 4, 2)
        mask[row : row + size // 4, column : column + size // 4] = 1
        image[:, mask == 1] += 0.3
    return torch.from_numpy(images), torch.from_numpy(masks)


def kept(
    inner: Loss, outer: Loss, w: Weights, p: Weights, settings: HypergradientSettings
) -> Hypergradient:
    """The Neumann series by accumulated gradients, whose graphs nobody frees."""
    w, p = (tuple(tensor.detach().requires_grad_() for tensor in part) for part in (w, p))
    vector = torch.autograd.grad(outer(w, p), w)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        inner(w, p).backward(create_graph=True)
    slopes = [tensor.grad for tensor in w if tensor.grad is not None]
    total = vector
    for _ in range(settings.terms):
        products = torch.autograd.grad(slopes, w, vector, retain_graph=True)
        vector = tuple(
            v - settings.scale * product for v, product in zip(vector, products, strict=True)
        )
        total = tuple(map(torch.add, total, vector))
    mixed = torch.autograd.grad(slopes, p, total, retain_graph=True)
    return Hypergradient(tuple(-settings.scale * part for part in mixed), (), False)


def warm(options: argparse.Namespace) -> State:
    """Train without outer steps: in a fresh network, curvature is often negative."""
    torch.set_num_threads(1)
    settings = BilevelSettings(
        outer_task="none", epochs=1, images_per_epoch=options.warmup, batch=1, checkpoint="last"
    )
    network = _train(options, settings, None)[0]
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def measure(options: argparse.Namespace, state: State, method: str | None, terms: int) -> Row:
    """Train in this process, which should be a new one."""
    torch.set_num_threads(1)
    METHODS[KEPT] = kept
    settings = BilevelSettings(
        outer_task="none" if method is None else "source_weights",
        method=method or "neumann",
        terms=terms,
        scale=options.scale,
        damping=options.damping,
        warmup_fraction=0.0,
        outer_batch=options.outer_batch,
        epochs=1,
        images_per_epoch=options.steps,
        batch=1,
        checkpoint="last",
    )
    before, seconds = _memory("VmRSS"), []
    for _ in range(options.repeats):
        _, last, taken = _train(options, settings, state)
        seconds.append(taken / options.steps)
    memory = _memory("VmHWM") - before
    return Row(min(seconds), memory, last.diverged, last.hypergradient)


def _train(
    options: argparse.Namespace, settings: BilevelSettings, state: State | None
) -> tuple[nn.Module, Epoch, float]:
    """The network, its last epoch, and the seconds of all steps."""
    network = make_unet(options.encoder, None, seed=0, width=options.width)
    if state is not None:
        network.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
    sources = Made(options.batch, options.size)
    val = squares(options.outer_batch, options.size, seed=0)
    trainer = BilevelTrainer(network, None, settings, 0, "cpu")
    start = time.process_time()
    for _ in trainer.run(sources, val[0], *val):
        pass
    middle = time.process_time()
    validate(network, *val, "cpu")
    end = time.process_time()
    return network, trainer.curve[-1], middle - start - (end - middle)


def main() -> None:
    """Print the table."""
    options = parse_options(
        "Time an outer step of Synth4Seg's training.",
        encoder="tf_efficientnet_lite0",
        width=(256, "of the decoder's deepest block"),
        size=(64, "side of the images"),
        batch=(2, "images of each source in a step"),
        outer_batch=4,
        terms=[0, 3, 10],
        scale=2.5e-4,
        damping=(10.0, "for conjugate_gradient"),
        warmup=(20, "inner steps before"),
        steps=(1, "inner ones, each with an outer one"),
        repeats=2,
    )
    cases = [("one_step", 0)]
    cases += [(name, k) for name in METHODS if name != "one_step" for k in options.terms]
    cases += [(KEPT, max(options.terms))]
    # A process serves one row, so that the most it held is that row's.
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        state = pool.apply(warm, (options,))
        alone = pool.apply(measure, (options, state, None, 0))
        rows = [pool.apply(measure, (options, state, *case)) for case in cases]
    table = Table("method", "K", "step", "outer / inner", "memory", "cut short")
    table.add_row("no outer step", "", f"{alone.seconds:.2f} s", "", _mib(alone.memory), "")
    for (name, k), row in zip(cases, rows, strict=True):
        table.add_row(
            name,
            str(k),
            f"{row.seconds:.2f} s",
            f"{row.seconds / alone.seconds - 1:.1f}",
            _mib(row.memory),
            f"{row.cut:.0%}",
        )
    freed = rows[cases.index(("neumann", max(options.terms)))]
    differ = abs(rows[-1].length / freed.length - 1)
    if differ > TOLERANCE and not freed.cut:
        raise SystemExit(f"the hypergradients differ by {differ:.1e}")
    console = Console(soft_wrap=True)
    console.print(
        f"{options.encoder}, {len(SOURCES)} sources of {options.batch} images of {options.size} "
        f"pixels a step, {options.outer_batch} for validation, {options.steps} steps. "
        f"{circumstances(options.repeats)} "
        f"Freed or not, hypergradients differ by {differ:.0e}."
    )
    console.print(table)


def _memory(field: str) -> int:
    """Bytes of this process in memory, now (``VmRSS``) or at most (``VmHWM``)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise SystemExit(f"this system does not tell {field}")
    return int(found[1]) * 1024


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


if __name__ == "__main__":
    main()
