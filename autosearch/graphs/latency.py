"""How long the graph of a detector takes for one image, as it runs where it is exported to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from autosearch.graphs.runtimes import Images

GRAPH_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What makes an ONNX graph and runs it."""

LEAST, MOST = 5, 50
"""Runs that are timed, at least and at most."""
SECONDS = 2.0
"""Time after which no more runs are begun, but for the least."""
NOISE = 0.03
"""Spread of the median, as a share of it, at which no more runs are needed."""
_WARM_UP, _WARM_SECONDS = 3, 1.0


def median_ms(call: Callable[[], object]) -> float:
    """Median wall-clock time of a call in milliseconds; lower is better.

    The first calls, three or as many as begin within a second, are not timed. Then there are as
    many as it takes: at least `LEAST`, and until the spread of the median (the interquartile
    range of the times by the square root of their number, 1.1 of its standard errors where times
    are normally distributed) is below `NOISE` of it, or there are `MOST` of them, or `SECONDS`
    are over.
    """
    for _ in _until(_WARM_UP, _WARM_SECONDS):
        call()
    times: list[float] = []
    for _ in _until(MOST, SECONDS, LEAST):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if len(times) >= LEAST and _settled(times):
            break
    return 1e3 * statistics.median(times)


def graph_latency(run: Callable[[Images], object], size: tuple[int, int]) -> float:
    """Median time of one image through a graph in milliseconds; see `median_ms`.

    Args:
        run: The graph, of ``(1, 3, H, W)`` float32 RGB in [0, 1].
        size: Height and width of its images. The one that is timed is noise, always the same.
    """
    image: Images = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    return median_ms(lambda: run(image))


def side_by_side(runs: Sequence[Callable[[Images], object]], size: tuple[int, int]) -> list[float]:
    """Median times of one image through several graphs in milliseconds, taken in turns.

    What else the machine does meanwhile slows all of them alike, so that their ratio holds.

    Args:
        runs: As of `graph_latency`.
        size: Likewise.
    """
    image: Images = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    for _ in _until(_WARM_UP, _WARM_SECONDS):
        for run in runs:
            run(image)
    times: list[list[float]] = [[] for _ in runs]
    for _ in _until(MOST, len(runs) * SECONDS, LEAST):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run(image)
            taken.append(time.perf_counter() - start)
        if len(times[0]) >= LEAST and all(map(_settled, times)):
            break
    return [1e3 * statistics.median(taken) for taken in times]


def _until(most: int, seconds: float, least: int = 1) -> Iterator[int]:
    """Count from 0 until there are enough, or time is over and there are the least."""
    start = time.perf_counter()
    for number in range(most):
        if number >= least and time.perf_counter() - start >= seconds:
            return
        yield number


def _settled(times: list[float]) -> bool:
    """Whether more of them would hardly change their median."""
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return bool((high - low) / len(times) ** 0.5 < NOISE * middle)
