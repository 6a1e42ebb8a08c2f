"""A small Synth4Seg, and images of grey noise with dark stains for it to learn from."""

import numpy as np
import torch
from autosearch_runners.synth4seg.detector import Synth4SegDetector
from autosearch_runners.synth4seg.runner import Synth4SegRunner
from torch import Tensor

from autosearch.contracts.detector import TrialContext, with_defaults
from autosearch.data.records import NORMAL, ImageSet
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.spec.space import Params

SIDE = 32
QUICK: Params = {"decoder_width": 32, "epochs": 2, "images_per_epoch": 4, "outer_interval": 2}
QUICK |= {"warmup_fraction": 0.25, "neumann_terms": 1, "outer_batch": 2, "lr": 1e-3}
EQUAL: Params = {"outer_task": "none", "sources": "trivial_augment+photometric+scale"}
LEARNT: Params = {"outer_task": "source_weights", "sources": "trivial_augment+scale"}
PLACES: Params = {"outer_task": "location", "sources": "combined"}


def spec_of(
    space: dict[str, object] | None = None, weights: str = "random", labelled: bool = True
) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "test", "runner": "synth4seg"},
            "space": space or {"lr": [1e-4, 1e-3]},
            "objectives": ["training_seconds", "iou_half"],
            "dataset": {"labelled": {} if labelled else None},
            "backbone": {"weights": weights},
        }
    )


def image_set(anomalous: int, normal: int, seed: int, side: int = SIDE) -> ImageSet:
    """Grey noise; anomalous images, which come first, have a dark square."""
    rng, count = np.random.default_rng(seed), anomalous + normal
    pixels = (0.6 + 0.03 * rng.standard_normal((count, 3, side, side))).astype(np.float32)
    masks = np.zeros((count, side, side), dtype=bool)
    for index in range(anomalous):
        top, left = rng.integers(0, side - 9, 2)
        masks[index, top : top + 9, left : left + 9] = True
        pixels[index, :, masks[index]] = 0.2
    names = tuple(f"{index}.png" for index in range(count))
    types = ("stain",) * anomalous + (NORMAL,) * normal
    return ImageSet(pixels.clip(0, 1), masks, types, names, names)


TRAIN, VAL = image_set(3, 4, seed=0), image_set(3, 2, seed=1)
ASKED = torch.from_numpy(image_set(2, 1, seed=2).pixels)


def build(runner: Synth4SegRunner, params: Params, seed: int = 0) -> Synth4SegDetector:
    canonical = runner.canonical(QUICK | params)
    return runner.build(canonical, TrialContext(seed, "cpu", (SIDE, SIDE), VAL))


def fitted(runner: Synth4SegRunner, params: Params, seed: int = 0) -> Synth4SegDetector:
    detector = build(runner, params, seed)
    detector.fit(TRAIN)
    return detector


def maps_of(runner: Synth4SegRunner, params: Params, seed: int = 0) -> Tensor:
    return fitted(runner, params, seed).anomaly_maps(ASKED)


def asked_maps(runner: Synth4SegRunner, params: Params) -> Tensor:
    """Maps of a detector built from all that is asked for, not from its canonical form."""
    detector = runner.build(
        with_defaults(QUICK | params, runner.parameters), TrialContext(0, "cpu", (SIDE, SIDE), VAL)
    )
    detector.fit(TRAIN)
    return detector.anomaly_maps(ASKED)


_KNOWN: dict[str, Synth4SegDetector] = {}


def known(runner: Synth4SegRunner, params: Params) -> Synth4SegDetector:
    """`fitted` for tests that only look at the detector."""
    key = repr(sorted(params.items()))
    if key not in _KNOWN:
        _KNOWN[key] = fitted(runner, params)
    return _KNOWN[key]


def known_maps(runner: Synth4SegRunner, params: Params) -> Tensor:
    """Maps of a `known` detector."""
    return known(runner, params).anomaly_maps(ASKED)
