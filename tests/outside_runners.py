"""Runners that another package might bring: one that works, others with one fault each.

`test_testing.py` runs this file as that package would.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from autosearch.contracts import (
    Cost,
    Detector,
    ParameterInfo,
    Runner,
    TrialContext,
    with_defaults,
)
from autosearch.data import ImageSet
from autosearch.spec import Params, parse_spec
from autosearch.testing import RunnerSuite


class Distances(nn.Module):
    """How far pixels are from those of a normal image."""

    def __init__(self, normal: Tensor, scale: Tensor, power: int) -> None:
        super().__init__()
        self.register_buffer("normal", normal)
        self.register_buffer("scale", scale)
        self.power = power

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * ((images - self.normal).abs() ** self.power).mean(dim=1)


class MeanImage(Detector):
    def __init__(self, scale: Tensor, power: int, size: tuple[int, int]) -> None:
        self._scale, self._power, self._size = scale, power, size
        self._normal: Tensor | None = None

    def fit(self, train: ImageSet) -> None:
        pixels = torch.from_numpy(train.pixels.copy())
        if train.valid is None:
            self._normal = pixels.mean(dim=0)
            return
        valid = torch.from_numpy(train.valid.copy())[:, None]
        of_all = (pixels * valid).sum(dim=(0, 2, 3), keepdim=True) / valid.sum()
        self._normal = torch.where(valid, pixels, of_all).mean(dim=0)

    def anomaly_maps(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.module()(images)

    def cost(self) -> Cost:
        height, width = self._size
        return Cost(macs=0, flops=9 * height * width, search_flops=0, parameters=3, bank_bytes=0)

    def module(self) -> nn.Module:
        if self._normal is None:
            raise RuntimeError("the detector has not been fitted")
        return Distances(self._normal, self._scale, self._power)


POWER = ParameterInfo(2, "of the distance", choices=(1, 2))


class MeanImageRunner(Runner):
    description = "distance to the mean of the training images"
    parameters: ClassVar = {"power": POWER}
    detector: type[MeanImage] = MeanImage

    def __init__(self) -> None:
        study = {"name": "outside", "runner": "mean_image"}
        space = {"power": [1, 2]}
        super().__init__(
            parse_spec({"study": study, "space": space, "objectives": ["gflops", "rwap"]})
        )
        self.scale = torch.ones(1)

    def canonical(self, params: Params) -> Params:
        return with_defaults(params, self.parameters)

    def build(self, params: Params, context: TrialContext) -> Detector:
        return self.detector(self.scale.clone(), int(params["power"]), context.image_size)


class TestRunner(RunnerSuite):
    configurations = ({}, {"power": 1})

    @pytest.fixture
    def runner(self) -> Runner:
        return MeanImageRunner()


class Remembers(MeanImageRunner):
    class detector(MeanImage):
        def fit(self, train: ImageSet) -> None:
            before = self._normal
            super().fit(train)
            if before is not None:
                self._normal = (before + self._normal) / 2


class Rescaled(Distances):
    def forward(self, images: Tensor) -> Tensor:
        maps = super().forward(images)
        return maps / maps.max()


class ComparesImages(MeanImageRunner):
    class detector(MeanImage):
        def module(self) -> nn.Module:
            super().module()
            return Rescaled(self._normal, self._scale, self._power)


class DrawsFreely(MeanImageRunner):
    class detector(MeanImage):
        def fit(self, train: ImageSet) -> None:
            super().fit(train)
            self._normal = self._normal + 0.01 * torch.rand(3, 1, 1)


class ExportsAnother(MeanImageRunner):
    class detector(MeanImage):
        def anomaly_maps(self, images: Tensor) -> Tensor:
            return super().anomaly_maps(images) * 1.01


class CountsInPercent(MeanImageRunner):
    class detector(MeanImage):
        top_share = 5.0


class LosesItsShare(MeanImageRunner):
    class detector(MeanImage):
        top_share = 0.3

        def module(self) -> nn.Module:
            self.top_share = None
            return super().module()


class Decides(Distances):
    def forward(self, images: Tensor) -> Tensor:
        maps = super().forward(images)
        return maps if maps.sum() > 0 else -maps


class CannotBeTraced(MeanImageRunner):
    class detector(MeanImage):
        def module(self) -> nn.Module:
            super().module()
            return Decides(self._normal, self._scale, self._power)


class CostsNothing(MeanImageRunner):
    class detector(MeanImage):
        def cost(self) -> Cost:
            return Cost(macs=0, flops=0, search_flops=0, parameters=3, bank_bytes=0)


class WritesElsewhere(MeanImageRunner):
    class detector(MeanImage):
        def artifacts(self) -> dict[str, bytes]:
            return {"../locations.jpg": b""}


class CountsToNothing(MeanImageRunner):
    class detector(MeanImage):
        def figures(self) -> dict[str, float]:
            return {"loss": float("nan")}


class StandsStill(MeanImageRunner):
    class detector(MeanImage):
        def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
            self.fit(train)
            yield from (0.5, 0.5)


class ScoresTooEarly(MeanImageRunner):
    class detector(MeanImage):
        def anomaly_maps(self, images: Tensor) -> Tensor:
            return images[:, 0] if self._normal is None else super().anomaly_maps(images)


class WritesIntoImages(MeanImageRunner):
    class detector(MeanImage):
        def anomaly_maps(self, images: Tensor) -> Tensor:
            return super().anomaly_maps(images.mul_(0.5))


class ScoresInDoubles(MeanImageRunner):
    class detector(MeanImage):
        def module(self) -> nn.Module:
            return super().module().double()


class Drifts(MeanImageRunner):
    def canonical(self, params: Params) -> Params:
        return {"power": 3 - int(super().canonical(params)["power"])}


class HasAnotherDefault(MeanImageRunner):
    def canonical(self, params: Params) -> Params:
        return {"power": params.get("power", 1)}


class AllowsNotItsDefault(MeanImageRunner):
    parameters: ClassVar = {"power": replace(POWER, default=3)}


class KeepsNothing(MeanImageRunner):
    def canonical(self, params: Params) -> Params:
        return {"power": params.pop("power", 2)}


class LiesTheOtherWay(MeanImageRunner):
    class detector(MeanImage):
        def anomaly_maps(self, images: Tensor) -> Tensor:
            maps = super().anomaly_maps(images)
            return maps if maps.shape[1] == maps.shape[2] else maps.flip(2)


class CountsSquares(MeanImageRunner):
    class detector(MeanImage):
        def cost(self) -> Cost:
            return replace(super().cost(), flops=9 * self._size[0] ** 2)


class LearnsPadding(MeanImageRunner):
    class detector(MeanImage):
        def fit(self, train: ImageSet) -> None:
            super().fit(replace(train, valid=None))


class LearnsBesidesPadding(MeanImageRunner):
    class detector(MeanImage):
        def fit(self, train: ImageSet) -> None:
            super().fit(replace(train, valid=None if train.valid is None else ~train.valid))


class SharesWeights(MeanImageRunner):
    def build(self, params: Params, context: TrialContext) -> Detector:
        return MeanImage(self.scale, int(params["power"]), context.image_size)


class LosesItself(MeanImageRunner):
    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ = {**state, "scale": torch.full((1,), 2.0)}


RUNNERS = (
    Remembers,
    ComparesImages,
    DrawsFreely,
    ExportsAnother,
    CountsInPercent,
    LosesItsShare,
    CannotBeTraced,
    CostsNothing,
    WritesElsewhere,
    CountsToNothing,
    StandsStill,
    ScoresTooEarly,
    WritesIntoImages,
    ScoresInDoubles,
    Drifts,
    HasAnotherDefault,
    AllowsNotItsDefault,
    KeepsNothing,
    LiesTheOtherWay,
    CountsSquares,
    LearnsPadding,
    LearnsBesidesPadding,
    SharesWeights,
    LosesItself,
)


class TestBrokenRunners(RunnerSuite):
    configurations = ({"power": 1},)
    side = 16
    drawn = 20

    @pytest.fixture(params=RUNNERS)
    def runner(self, request: pytest.FixtureRequest) -> Runner:
        return request.param()
