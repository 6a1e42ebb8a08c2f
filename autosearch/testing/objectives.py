"""What every objective must hold: a number when it is promised, and a name to ask for it by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autosearch.contracts import Cost, Detector, Objective, Scored, registry
from autosearch.data import NORMAL, ImageSet
from autosearch.metrics import Truth
from autosearch.spec import Constraint
from autosearch.testing.images import image_set

_SIDE = 32


class ObjectiveSuite:
    """Checks of an `Objective`.

    Give a fixture ``objective``. It is measured on a made-up detector, of which only the public
    contract can be asked, and on scores of six images; both are fixtures to override.

    Attributes:
        installed: Whether an entry point names it, so that a spec can.
    """

    installed: ClassVar[bool] = True

    @pytest.fixture
    def detector(self) -> Detector:
        """One that has not been fitted."""
        return _Brightness()

    @pytest.fixture
    def scored(self) -> Scored:
        """Maps that rank nearly all pixels right, and no two alike."""
        types = ("stain", "stain", "scratch", NORMAL, NORMAL, NORMAL)
        masks = np.zeros((6, _SIDE, _SIDE), dtype=bool)
        masks[0, 4:12, 5:9] = masks[1, 20:24, 2:30] = masks[2, 15:17, 3:20] = True
        noise = np.random.default_rng(0).random(masks.shape)
        maps = (0.2 * noise + 0.6 * masks + 0.1).astype(np.float32)
        made = np.array([kind == "scratch" for kind in types])
        truth, seconds = Truth.from_masks(masks, types), {"build": 0.5, "fit": 2.0}
        return Scored(maps, truth, seconds, synthetic=made)

    def test_record_is_well_formed(self, objective: Objective) -> None:
        """A name that a constraint can use, a known direction and moment, and words."""
        assert Constraint.parse(f"{objective.name} <= 1").name == objective.name
        assert objective.direction in ("minimize", "maximize")
        assert objective.moment in ("build", "fit", "score")
        assert objective.unit == objective.unit.strip()
        assert objective.help.strip() and "\n" not in objective.help

    def test_is_finite_at_its_moment(
        self, objective: Objective, detector: Detector, scored: Scored
    ) -> None:
        """It asks for nothing that is not there yet: before a fit, or before scoring."""
        if objective.moment != "build":
            detector.fit(image_set(_SIDE, 2, 0, seed=1))
        known = scored if objective.moment == "score" else None
        assert math.isfinite(float(objective.measure(detector, known)))

    def test_is_finite_afterwards(
        self, objective: Objective, detector: Detector, scored: Scored
    ) -> None:
        """The test split is measured once everything is known."""
        detector.fit(image_set(_SIDE, 2, 0, seed=1))
        assert math.isfinite(float(objective.measure(detector, scored)))

    def test_needs_masks_only_if_it_says_so(
        self, objective: Objective, detector: Detector, scored: Scored
    ) -> None:
        """What is not marked ``pixels`` can be searched for where no image has a mask."""
        if objective.pixels:
            return
        detector.fit(image_set(_SIDE, 2, 0, seed=1))
        shape, truth = scored.truth.masks.shape, scored.truth
        counted = np.broadcast_to(~truth.labels[:, None, None], shape)
        empty = np.zeros(shape, dtype=bool)
        unmarked = Truth.from_masks(empty, truth.types, counted=counted)
        found = objective.measure(detector, replace(scored, truth=unmarked))
        assert math.isfinite(float(found))

    def test_inputs_are_left_alone(
        self, objective: Objective, detector: Detector, scored: Scored
    ) -> None:
        """All objectives read the same scores."""
        detector.fit(image_set(_SIDE, 2, 0, seed=1))
        maps, masks, seconds = scored.maps.copy(), scored.truth.masks.copy(), dict(scored.seconds)
        objective.measure(detector, scored)
        np.testing.assert_array_equal(scored.maps, maps)
        np.testing.assert_array_equal(scored.truth.masks, masks)
        assert scored.seconds == seconds

    def test_good_maps_are_no_worse_than_their_opposite(
        self, objective: Objective, detector: Detector, scored: Scored
    ) -> None:
        """Its direction is the right one, if it judges maps: what has a unit measures a cost."""
        if objective.unit:
            return
        detector.fit(image_set(_SIDE, 2, 0, seed=1))
        good = float(objective.measure(detector, scored))
        bad = float(objective.measure(detector, replace(scored, maps=1 - scored.maps)))
        assert good >= bad if objective.direction == "maximize" else good <= bad

    def test_travels_to_workers(
        self, objective: Objective, detector: Detector, scored: Scored
    ) -> None:
        """By value, as objectives do that are installed under no name."""
        from ray import cloudpickle

        copied: Objective = cloudpickle.loads(cloudpickle.dumps(objective))
        assert copied.described() == objective.described()
        detector.fit(image_set(_SIDE, 2, 0, seed=1))
        assert math.isfinite(float(copied.measure(detector, scored)))

    def test_is_found_by_its_name(self, objective: Objective) -> None:
        """An entry point of the group ``autosearch.objectives`` names it, if it is installed."""
        if self.installed:
            assert registry.objectives()[objective.name] is objective


class _Brightness(Detector):
    """Scores pixels by how far they are from the mean of the training images."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def fit(self, train: ImageSet) -> None:
        self._mean = float(train.pixels.mean())

    def anomaly_maps(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            maps: Tensor = self.module()(images)
        return maps

    def cost(self) -> Cost:
        fitted = self._mean is not None
        return Cost(3072, 8192, 512 * fitted, 4, 128 * fitted)

    def module(self) -> nn.Module:
        if self._mean is None:
            raise RuntimeError("the detector has not been fitted")
        return _Distance(self._mean)


class _Distance(nn.Module):
    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, images: Tensor) -> Tensor:
        return (images.mean(dim=1) - self.mean).abs()
