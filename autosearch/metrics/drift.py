"""Whether scores of new images come from where those of known ones came from.

Two figures, as neither tells all: the Kolmogorov-Smirnov test says how sure a difference is (with
thousands of images it is sure of differences that matter to nobody), the population stability
index how large it is (with a few images chance alone makes it large, which is taken off here).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST = 10
"""Images on each side below which nothing is said."""

SURE = 0.01
"""p-value of the Kolmogorov-Smirnov test below which two samples differ for sure."""

SLIGHT, LARGE = 0.1, 0.25
"""Population stability indices from which on a shift is usually called moderate, and large."""

_BINS, _IN_BIN = 10, 5
"""Most bins, and baseline scores that each should hold at least."""

_RESAMPLES, _LEVEL = 2000, 0.95


@dataclass(frozen=True)
class Drift:
    """Scores of new images against those of a baseline.

    Attributes:
        baseline: Number of baseline scores.
        images: Number of new ones.
        medians: Of the baseline, and of the new scores.
        ks: Kolmogorov-Smirnov statistic: the largest difference of both distribution functions,
            in [0, 1].
        p: Its p-value: how often chance alone makes it as large.
        psi: Population stability index less what chance adds to it, 0 or more.
        interval: 95 % bootstrap interval of it.
        found: Whether the difference is sure (``p`` below `SURE`) and not slight (``psi`` at least
            `SLIGHT`). None where there are too few scores to say.

    Statistics are None where ``found`` is.
    """

    baseline: int
    images: int
    medians: tuple[float, float] | None = None
    ks: float | None = None
    p: float | None = None
    psi: float | None = None
    interval: tuple[float, float] | None = None
    found: bool | None = None

    def to_plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @property
    def text(self) -> str:
        """What it means, in plain words."""
        if self.medians is None or self.psi is None or self.interval is None:
            return (
                f"too few images to say whether scores have shifted: {self.images} new ones and "
                f"{self.baseline} of the baseline, {LEAST} of each are needed"
            )
        low, high = self.interval
        figures = (
            f"median {self.medians[1]:.4g} of {self.images} images against {self.medians[0]:.4g} "
            f"of {self.baseline} normal validation images; Kolmogorov-Smirnov {self.ks:.3f} "
            f"(p {self.p:.2g}), population stability index {self.psi:.2f} [{low:.2f}, {high:.2f}]"
        )
        if not self.found:
            return f"no drift of scores: {figures}"
        size = "far " if self.psi >= LARGE else ""
        way = "higher" if self.medians[1] > self.medians[0] else "lower"
        if self.medians[1] == self.medians[0]:
            way = "spread otherwise"
        return f"scores have drifted: they are {size}{way} than they were; {figures}"


def drift_of(
    baseline: ArrayLike, scores: ArrayLike, seed: int = 0, resamples: int = _RESAMPLES
) -> Drift:
    """Compare scores of new images with those of a baseline.

    Args:
        baseline: ``(N,)`` finite scores that are as they should be.
        scores: ``(M,)`` finite new ones.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Raises:
        ValueError: A score is NaN or infinite.
    """
    from scipy.stats import ks_2samp  # Takes long, and most predictions never ask.

    old, new = (np.asarray(values, dtype=np.float64).ravel() for values in (baseline, scores))
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        raise ValueError("scores: NaN or infinite ones; expected none")
    if min(old.size, new.size) < LEAST:
        return Drift(old.size, new.size)
    tested = ks_2samp(old, new)
    edges = bin_edges(old)
    counts = [_counts(values, edges) for values in (old, new)]
    found = float(stability_index(*counts))
    draw = np.random.default_rng(seed)
    again = stability_index(
        *(draw.multinomial(one.sum(), one / one.sum(), size=resamples) for one in counts)
    )
    # Drawing again adds what chance had added before: taken off once, it leaves the estimate. The
    # interval is the basic one, which mirrors the draws about the index for the same reason.
    tail = (1 - _LEVEL) / 2
    lowest, highest = np.quantile(again, [tail, 1 - tail])
    psi = max(0.0, 2 * found - float(again.mean()))
    interval = (max(0.0, 2 * found - float(highest)), max(0.0, 2 * found - float(lowest)))
    return Drift(
        old.size,
        new.size,
        (float(np.median(old)), float(np.median(new))),
        float(tested.statistic),
        float(tested.pvalue),
        psi,
        interval,
        bool(tested.pvalue < SURE and psi >= SLIGHT),
    )


def bin_edges(baseline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner edges of bins with equal numbers of baseline scores; the outer bins are open.

    Up to ten bins, and no more than leave five scores in each, but two; equal edges are one.
    """
    bins = max(2, min(_BINS, baseline.size // _IN_BIN))
    return np.unique(np.quantile(baseline, np.arange(1, bins) / bins))


def stability_index(old: ArrayLike, new: ArrayLike) -> Any:
    """Population stability index: the sum over bins of ``(q - p) ln(q / p)``.

    Half a score is added to every bin, so that an empty one does not make it infinite.

    Args:
        old: ``(..., B)`` counts of the baseline, whose shares are ``p``.
        new: ``(..., B)`` counts of new scores, whose shares are ``q``.

    Returns:
        ``(...)`` numbers >= 0; 0 for equal shares.
    """
    p, q = (_shares(np.asarray(counts, dtype=np.float64)) for counts in (old, new))
    return ((q - p) * np.log(q / p)).sum(axis=-1)


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    smoothed = counts + 0.5
    return np.asarray(smoothed / smoothed.sum(axis=-1, keepdims=True))


def _counts(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many values lie in each bin; one on an edge lies above it."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=edges.size + 1)
