"""Table of what can be measured: name to direction, unit, and how it comes from a detector.

Adding one is a function and a row here, or an entry point of the group ``autosearch.objectives``
that names an `Objective`. Runners need no change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from autosearch.errors import ConfigError, Infeasible
from autosearch.metrics import (
    Ranking,
    Scores,
    Truth,
    auroc,
    average_precision,
    best_f1,
    image_scores,
    mean_image_iou,
)

if TYPE_CHECKING:  # Listing objectives must not load torch.
    from autosearch.contracts.detector import Cost, Detector

Direction = Literal["minimize", "maximize"]
Moment = Literal["build", "fit", "score"]
Anomalies = Literal["all", "real", "synthetic", "both"]

HALF = 0.5
"""From which probability on a pixel is called anomalous by the objectives named for it."""


@dataclass(frozen=True)
class Beside:
    """Maps of anomalies that were made beside validation.

    Attributes:
        maps: ``(M, h, w)``, of the size of validation's.
        truth: Of the normal images of validation, in their order, and then of these.
    """

    maps: NDArray[np.float32]
    truth: Truth


@dataclass(frozen=True)
class Scored:
    """A detector's answer to the validation split.

    Attributes:
        maps: ``(N, h, w)`` anomaly maps at the size of the masks.
        truth: What is known of the split.
        seconds: Wall time of each part of the trial so far.
        prevalence: Share of anomalous pixels that calibrated figures stand for.
        input_size: Height and width of what the detector was given.
        synthetic: ``(N,)`` bool, true for an image whose anomaly was made; None if none was.
        beside: Synthetic anomalies that are not among the images; None if there are none.
        top_share: Share of the highest pixels whose mean is an image's score; None: the highest
            alone.
        threads: Of the graph whose time is measured; None to time torch instead, on its own
            threads, as earlier versions did.
    """

    maps: NDArray[np.float32]
    truth: Truth
    seconds: dict[str, float]
    prevalence: float = 0.01
    input_size: tuple[int, int] = (224, 224)
    synthetic: NDArray[np.bool_] | None = None
    top_share: float | None = None
    threads: int | None = 1
    beside: Beside | None = None

    @cached_property
    def ranking(self) -> Ranking:
        """All pixels in order of score, from which every pixel metric follows."""
        return Ranking.from_maps(self.maps, self.truth)

    @cached_property
    def images(self) -> Scores:
        """``(N,)``: each image's score, that of its highest pixel or share."""
        return image_scores(self.maps, self.top_share, self.truth.scored)

    @cached_property
    def real_ranking(self) -> Ranking:
        """The same of the real anomalies, with all normal images."""
        return self._ranking_of(~self._made)

    @cached_property
    def synthetic_ranking(self) -> Ranking:
        """The same of the synthetic anomalies, with all normal images."""
        if self.beside is not None:
            maps = np.concatenate([self.maps[~self.truth.labels], self.beside.maps])
            return Ranking.from_maps(maps, self.beside.truth)
        return self._ranking_of(self._made | ~self.truth.labels)

    @property
    def _made(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.maps), dtype=bool) if self.synthetic is None else self.synthetic

    def _ranking_of(self, chosen: NDArray[np.bool_]) -> Ranking:
        if chosen.all():
            return self.ranking
        return Ranking.from_maps(self.maps[chosen], self.truth.select(chosen))


@dataclass(frozen=True)
class Objective:
    """One measurable quantity.

    Attributes:
        name: As in a spec.
        direction: Which way is better.
        unit: Of the value, empty for a plain number.
        moment: When it can first be measured: from the built network, from the fitted detector,
            or only from scores. Constraints on early ones save the work of fitting.
        measure: From detector and scores to the value; `Scored` is None before scoring.
        help: What it says, in a few words.
        default: Whether it is recorded for every trial, asked for or not.
        probabilities: Whether it means something only for maps of probabilities.
        cumulative: Whether it is what a training has spent so far, as its time is: in a pause the
            value is that of the part which is done, and it only grows.
        pixels: Whether it is undefined unless masks say which pixels are anomalous.
        graph: Whether it is of the exported graph, which takes the packages of
            ``autosearch[export]``. Training changes what is in a graph, not what it does, so that
            in pauses such a figure is measured once.
        anomalies: Which anomalies it is of, ``both`` if it needs real and synthetic ones. What is
            not of all is recorded for every trial only where there are synthetic ones, and, if it
            is of real ones too, both.
    """

    name: str
    direction: Direction
    unit: str
    moment: Moment
    measure: Callable[[Detector, Scored | None], float]
    help: str
    default: bool = False
    probabilities: bool = False
    cumulative: bool = False
    pixels: bool = False
    anomalies: Anomalies = "all"
    graph: bool = False

    @classmethod
    def recorded(
        cls, name: str, direction: Direction, unit: str, help: str, pixels: bool = False
    ) -> Objective:
        """One that a study has measured and that is not installed here: it has no measure."""

        def unknown(detector: Detector, scored: Scored | None) -> float:
            raise ConfigError("objectives", name, "an objective that is installed here")

        return cls(name, direction, unit, "score", unknown, help, pixels=pixels)

    def described(self) -> dict[str, str | bool]:
        """What `recorded` needs to know."""
        told: dict[str, str | bool] = {"direction": self.direction, "unit": self.unit}
        return {**told, "help": self.help, "pixels": self.pixels}


def _mixed(scored: Scored) -> float:
    """Half of it is of real anomalies, half of synthetic ones, each at the stated prevalence."""
    kinds = (scored.real_ranking, scored.synthetic_ranking)
    return sum(ranking.rwap(scored.prevalence) for ranking in kinds) / 2


def _cost(read: Callable[[Cost], float]) -> Callable[[Detector, Scored | None], float]:
    return lambda detector, scored: float(read(detector.cost()))


def _score(read: Callable[[Scored], float]) -> Callable[[Detector, Scored | None], float]:
    def measure(detector: Detector, scored: Scored | None) -> float:
        if scored is None:
            raise ValueError("a metric was asked for before anything was scored")
        return float(read(scored))

    return measure


def _latency(detector: Detector, scored: Scored | None) -> float:
    """Of the graph as ``autosearch export`` writes and times it, with this bank.

    Raises:
        Infeasible: No file can hold the graph.
    """
    import torch

    from autosearch.backbones import measure_latency
    from autosearch.contracts.tiled import TiledDetector
    from autosearch.graphs import TooLarge, graph_latency, onnx_bytes, onnx_run

    size, passes = (224, 224) if scored is None else scored.input_size, 1
    threads = 1 if scored is None else scored.threads
    if threads is None:
        image = torch.zeros(1, 3, *size)
        return measure_latency(lambda: detector.anomaly_maps(image))
    if isinstance(detector, TiledDetector):
        size, passes, detector = detector.grid.tile, len(detector.grid), detector.parts[0]
    # What the detector shares with its module must stay where it is.
    module = copy.deepcopy(detector.module()).cpu().eval()
    try:
        graph = onnx_bytes(module, size, top_share=detector.top_share)
    except TooLarge as error:
        raise Infeasible(f"latency_ms: its graph holds {error.value}, and 2 GB is most") from None
    return passes * graph_latency(onnx_run(graph, threads=threads), size)


_GIGA, _MEGA = 1e9, 1e6

TABLE: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("gflops", "minimize", "GFLOP", "build", _cost(lambda c: c.flops / _GIGA),
                  "operations of the network per image, 2 per multiply-accumulate", True),
        Objective("gmacs", "minimize", "GMAC", "build", _cost(lambda c: c.macs / _GIGA),
                  "multiply-accumulates of the network per image", True),
        Objective("parameters", "minimize", "", "build", _cost(lambda c: c.parameters),
                  "numbers in the part of the network that is used", True),
        Objective("search_gflops", "minimize", "GFLOP", "fit",
                  _cost(lambda c: c.search_flops / _GIGA),
                  "operations of the nearest-neighbour search per image", True),
        Objective("total_gflops", "minimize", "GFLOP", "fit",
                  _cost(lambda c: (c.flops + c.search_flops) / _GIGA),
                  "operations of network and nearest-neighbour search per image", True),
        Objective("bank_mb", "minimize", "MB", "fit", _cost(lambda c: c.bank_bytes / _MEGA),
                  "size of the memory bank", True),
        Objective("latency_ms", "minimize", "ms", "score", _latency,
                  "median time for one image of the exported graph, memory bank included, in "
                  "onnxruntime on the CPU of the machine that runs the trial", graph=True),
        Objective("training_seconds", "minimize", "s", "score",
                  _score(lambda s: s.seconds["fit"]),
                  "time to fit the detector, measured where it runs", cumulative=True),
        Objective("rwap", "maximize", "", "score", _score(lambda s: s.ranking.rwap()),
                  "region-weighted average precision over pixels", True, pixels=True),
        Objective("ap", "maximize", "", "score", _score(lambda s: s.ranking.ap()),
                  "average precision over pixels", True, pixels=True),
        Objective("rwap_calibrated", "maximize", "", "score",
                  _score(lambda s: s.ranking.rwap(s.prevalence)),
                  "rwAP as it were if a stated share of the pixels were anomalous", True,
                  pixels=True),
        Objective("ap_calibrated", "maximize", "", "score",
                  _score(lambda s: s.ranking.ap(s.prevalence)),
                  "AP as it were at that prevalence", True, pixels=True),
        Objective("pixel_auroc", "maximize", "", "score",
                  _score(lambda s: s.ranking.pixel_auroc()),
                  "area under the ROC over pixels", True, pixels=True),
        Objective("pauroc_norm", "maximize", "", "score",
                  _score(lambda s: s.ranking.pauroc_norm()),
                  "area under the ROC over pixels up to 30 % false positives, over 0.3",
                  pixels=True),
        Objective("pauroc_mcclish", "maximize", "", "score",
                  _score(lambda s: s.ranking.pauroc_mcclish()),
                  "the same area, rescaled so that chance is 0.5 (McClish)", pixels=True),
        Objective("aupro", "maximize", "", "score", _score(lambda s: s.ranking.aupro()),
                  "area under the per-region overlap up to 30 % false positives", pixels=True),
        Objective("f1", "maximize", "", "score", _score(lambda s: s.ranking.best_f1().f1),
                  "best F1 over pixels, over all thresholds", pixels=True),
        Objective("iou", "maximize", "", "score",
                  _score(lambda s: s.ranking.iou(s.ranking.best_f1().threshold)),
                  "intersection over union of pixels at the threshold of best F1", pixels=True),
        Objective("iou_half", "maximize", "", "score", _score(lambda s: s.ranking.iou(HALF)),
                  "intersection over union of pixels where a probability is at least 0.5",
                  probabilities=True, pixels=True),
        Objective("iou_half_images", "maximize", "", "score",
                  _score(lambda s: mean_image_iou(s.maps, s.truth, HALF)),
                  "the same of each anomalous image by itself, mean", probabilities=True,
                  pixels=True),
        Objective("rwap_real", "maximize", "", "score",
                  _score(lambda s: s.real_ranking.rwap()),
                  "rwAP of the real anomalies and all normal images", True, pixels=True,
                  anomalies="real"),
        Objective("rwap_synthetic", "maximize", "", "score",
                  _score(lambda s: s.synthetic_ranking.rwap()),
                  "rwAP of the synthetic anomalies and all normal images", True, pixels=True,
                  anomalies="synthetic"),
        Objective("rwap_mixed", "maximize", "", "score", _score(_mixed),
                  "mean of the calibrated rwAP of the real and that of the synthetic anomalies",
                  True, pixels=True, anomalies="both"),
        Objective("ap_synthetic", "maximize", "", "score",
                  _score(lambda s: s.synthetic_ranking.ap()),
                  "AP of the synthetic anomalies and all normal images", True, pixels=True,
                  anomalies="synthetic"),
        Objective("image_auroc", "maximize", "", "score",
                  _score(lambda s: auroc(s.images, s.truth.labels)),
                  "area under the ROC over images, by their map's highest pixel or share", True),
        Objective("image_ap", "maximize", "", "score",
                  _score(lambda s: average_precision(s.images, s.truth.labels)),
                  "average precision over images, scored likewise", True),
        Objective("image_f1", "maximize", "", "score",
                  _score(lambda s: best_f1(s.images, s.truth.labels).f1),
                  "best F1 over images, over all thresholds", True),
    )
}  # fmt: skip
"""All objectives of this package by name."""
