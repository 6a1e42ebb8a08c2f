"""What `collect.py` kept: figures of configurations under many draws of validation defects."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from collect import folder_of, loaded
from numpy.typing import NDArray

from autosearch.data import NORMAL
from autosearch.metrics import Truth, bootstrap, image_scores

FIGURES = ("rwap_calibrated", "ap_calibrated", "rwap", "ap", "image_auroc")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Dataset:
    """Images of a dataset as all configurations met them: validation, then test.

    Attributes:
        name: Of the dataset.
        truth: Of all images.
        types: ``anomaly_type`` of each.
        validation: ``(N,)`` bool, true for the normal images of validation and what was made.
        folder: Where maps are kept.
        prevalence: Of calibrated figures.
    """

    name: str
    truth: Truth
    types: tuple[str, ...]
    validation: NDArray[np.bool_]
    folder: Path
    prevalence: float

    @classmethod
    def of(cls, data: str, out: Path, space: str, normals: int) -> Dataset:
        """Load the images that were kept of, without their pixels."""
        inputs, _, val, test = loaded(space, data, normals)
        masks = np.concatenate([val.masks, test.masks])
        types = (*val.types, *test.types)
        truth = Truth.from_masks(masks, types, None, NORMAL)
        validation = np.arange(len(types)) < len(val)
        folder = folder_of(out, data)
        return cls(folder.name, truth, types, validation, folder, inputs.spec.dataset.prevalence)

    @cached_property
    def defects(self) -> dict[str, NDArray[np.intp]]:
        """Positions of the real anomalous images of every type."""
        kinds = np.array(self.types)
        real = self.truth.labels & ~self.validation
        return {k: np.flatnonzero(real & (kinds == k)) for k in sorted(set(kinds[real].tolist()))}

    def draws(self, each: int, count: int, seed: int) -> NDArray[np.bool_]:
        """``(count, N)``: which defects validation has, so many of every type."""
        rng = np.random.default_rng([seed, each])
        drawn = np.zeros((count, len(self.types)), dtype=bool)
        for row in drawn:
            for own in self.defects.values():
                row[rng.choice(own, min(each, len(own) - 1), replace=False)] = True
        return drawn

    def validations(self, drawn: NDArray[np.bool_]) -> Floats:
        """Copies of images in validation, of draws."""
        return (drawn | (self.validation & ~self.truth.labels)).astype(float)

    def tests(self, drawn: NDArray[np.bool_]) -> Floats:
        """Copies of images in the test split, of draws."""
        return (~drawn & ~self.validation).astype(float)

    @property
    def made(self) -> Floats:
        """Copies where anomalies are the made ones alone."""
        return self.validation.astype(float)[None]

    def maps(self, name: str) -> NDArray[np.float32]:
        """Those of a configuration."""
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as kept:
            return np.concatenate([kept["val"], kept["test"]]).astype(np.float32)

    def figures(
        self, maps: NDArray[np.float32], copies: Floats, top_share: float | None
    ) -> dict[str, Floats]:
        """`FIGURES` for ``(S, N)`` copies of the images, ``(S,)`` each."""
        scores = image_scores(maps, top_share)
        told = bootstrap.Histograms.of(maps, self.truth, self.types).metrics(
            copies, self.prevalence
        )
        told["image_auroc"] = bootstrap.image_auroc(scores, self.truth.labels, copies)
        return {name: told[name] for name in FIGURES}

    def told(self) -> list[dict[str, Any]]:
        """What is known of every configuration that could be built, in order of name."""
        found = []
        for path in sorted(self.folder.glob("*.npz")):
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
                one = json.loads(str(kept["told"]))
            if "infeasible" not in one:
                found.append(one)
        return found


def common(datasets: Sequence[Dataset]) -> list[str]:
    """Names of configurations that could be built on all of them."""
    names = [{one["name"] for one in data.told()} for data in datasets]
    return sorted(set.intersection(*names))
