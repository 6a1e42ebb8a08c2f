"""Parts that another package might bring: one of a kind works, others have one fault each.

`test_testing.py` runs this file as that package would.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor, FeatureInfo
from autosearch.contracts import Detector, Objective, Scored
from autosearch.data import NORMAL, Index, Outlines, Polygon, Sample
from autosearch.memory import MemoryBank
from autosearch.testing import BackboneSuite, LayoutSuite, MemoryBankSuite, ObjectiveSuite


class Naive(MemoryBank):
    """Differences, all at once."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self._parts = [torch.zeros(0, dimension)]

    def _append(self, patches: Tensor) -> None:
        self._parts.append(patches)

    def _stored(self) -> Tensor:
        return torch.cat(self._parts)

    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        found = torch.cdist(queries, self._stored(), compute_mode="donot_use_mm_for_euclid_dist")
        return found.square().sort(dim=1).values[:, :num_neighbors]


class TestBank(MemoryBankSuite):
    size = 50

    @pytest.fixture
    def make_bank(self) -> type[Naive]:
        return Naive


class TakesRoots(Naive):
    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        return super()._nearest(queries, num_neighbors).sqrt()


class KeepsTheLastPart(Naive):
    def _append(self, patches: Tensor) -> None:
        self._parts = [patches]


class CountsTiesOnce(Naive):
    def _append(self, patches: Tensor) -> None:
        super()._append(patches.unique(dim=0))


class StopsGrowing(Naive):
    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        self._append = lambda patches: None
        return super()._nearest(queries, num_neighbors)


class LosesDigits(Naive):
    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        a, b = queries + self._origin, self.patches()
        squares = a.square().sum(1)[:, None] + b.square().sum(1)
        return (squares - 2 * a @ b.T).sort(dim=1).values[:, :num_neighbors]


class Borrows(Naive):
    def add(self, patches: Tensor) -> None:
        super().add(patches)
        self._parts[-1] = patches

    def search(self, queries: Tensor, num_neighbors: int = 1) -> Tensor:
        self._origin = torch.zeros(self.dimension)
        return super().search(queries, num_neighbors)


class SortsPatches(Naive):
    def patches(self) -> Tensor:
        return super().patches().sort(dim=0).values


class CountsDoubles(Naive):
    @property
    def nbytes(self) -> int:
        return 2 * super().nbytes


class FindsFewer(Naive):
    def search(self, queries: Tensor, num_neighbors: int = 1) -> Tensor:
        return super().search(queries, max(1, min(num_neighbors, len(self))))


class ChecksNothing(Naive):
    def _checked(self, vectors: Tensor, name: str) -> Tensor:
        return vectors


BANKS = (
    TakesRoots,
    KeepsTheLastPart,
    CountsTiesOnce,
    StopsGrowing,
    LosesDigits,
    Borrows,
    SortsPatches,
    CountsDoubles,
    FindsFewer,
    ChecksNothing,
)


class TestBrokenBanks(MemoryBankSuite):
    size = 50

    @pytest.fixture(params=BANKS)
    def make_bank(self, request: pytest.FixtureRequest) -> type[Naive]:
        return request.param


class TwoLevels(FeatureExtractor):
    """Strided convolutions with norms."""

    feature_info = (FeatureInfo(1, 4, 2, "first"), FeatureInfo(2, 6, 4, "second"))
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = self.level(3, 4), self.level(4, 6)
        self.eval().requires_grad_(False)

    def level(self, inputs: int, outputs: int) -> nn.Module:
        conv = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, images: Tensor) -> list[Tensor]:
        first = self.first(images)
        return [first, self.second(first)]


class TestBackbone(BackboneSuite):
    @pytest.fixture
    def extractor(self) -> FeatureExtractor:
        return TwoLevels()


class RunsOn(TwoLevels):
    def __init__(self) -> None:
        super().__init__()
        self.third = nn.Conv2d(6, 8, 1).requires_grad_(False).eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = super().forward(images)
        self.third(maps[-1])
        return maps


class PromisesMore(TwoLevels):
    feature_info = (FeatureInfo(1, 4, 2, "first"), FeatureInfo(2, 8, 4, "second"))


class NamesAnother(TwoLevels):
    feature_info = (FeatureInfo(1, 4, 2, "first.1"), FeatureInfo(2, 6, 4, "second"))


class StillLearns(TwoLevels):
    def __init__(self) -> None:
        super().__init__()
        self.train()


class ComparesImages(TwoLevels):
    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images - images.mean(dim=0))


class HasNoSpread(TwoLevels):
    std = (0.5, 0.5, 0.0)


class Squared(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.square()


class HidesWork(TwoLevels):
    def level(self, inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(super().level(inputs, outputs), Squared())


class DeniesProducts(TwoLevels):
    layers_alone = True

    def forward(self, images: Tensor) -> list[Tensor]:
        first, second = super().forward(images)
        return [first, second @ torch.eye(second.shape[-1])]


class NormAndSkip(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        found = self.conv(features)
        return found + self.norm(found)


class CannotBeFolded(TwoLevels):
    def level(self, inputs: int, outputs: int) -> nn.Module:
        return NormAndSkip(inputs, outputs)


BACKBONES = (
    RunsOn,
    PromisesMore,
    NamesAnother,
    StillLearns,
    ComparesImages,
    HasNoSpread,
    HidesWork,
    DeniesProducts,
    CannotBeFolded,
)


class TestBrokenBackbones(BackboneSuite):
    @pytest.fixture(params=BACKBONES)
    def extractor(self, request: pytest.FixtureRequest) -> FeatureExtractor:
        return request.param()


def brightest_defect(detector: Detector, scored: Scored | None) -> float:
    return float(scored.maps[scored.truth.masks].max())


GOOD = Objective(
    "defect", "maximize", "", "score", brightest_defect, "highest score of a defect", pixels=True
)


class TestObjective(ObjectiveSuite):
    installed = False

    @pytest.fixture
    def objective(self) -> Objective:
        return GOOD


def early(detector: Detector, scored: Scored | None) -> float:
    return float(detector.anomaly_maps(torch.zeros(1, 3, 32, 32)).max())


def forgets(detector: Detector, scored: Scored | None) -> float:
    return float("nan") if scored else 1.0


def writes(detector: Detector, scored: Scored | None) -> float:
    scored.maps[scored.maps < 0.5] = 0
    return brightest_defect(detector, scored)


def locked(lock: threading.Lock, detector: Detector, scored: Scored | None) -> float:
    with lock:
        return brightest_defect(detector, scored)


OBJECTIVES = {
    "HasNoName": replace(GOOD, name="worst defect"),
    "PointsTheOtherWay": replace(GOOD, direction="minimize"),
    "AsksTooEarly": replace(GOOD, moment="build", measure=early),
    "Forgets": replace(GOOD, moment="build", measure=forgets),
    "WritesIntoMaps": replace(GOOD, measure=writes),
    "HidesThatItNeedsMasks": replace(GOOD, pixels=False),
    "IsLocked": replace(GOOD, measure=partial(locked, threading.Lock())),
}


class TestBrokenObjectives(ObjectiveSuite):
    installed = False

    @pytest.fixture(params=OBJECTIVES)
    def objective(self, request: pytest.FixtureRequest) -> Objective:
        return OBJECTIVES[request.param]


class TestForgottenEntryPoint(ObjectiveSuite):
    @pytest.fixture
    def objective(self) -> Objective:
        return GOOD


def sample(root: Path, kind: str, number: int) -> Sample:
    """One image of random pixels and, if it is anomalous, a mask."""
    path, mask = root / f"{kind}{number}.png", root / f"{kind}{number}_mask.png"
    Image.effect_noise((20, 16), 40).convert("RGB").save(path)
    if kind == NORMAL:
        return Sample(path, (), kind, None, path.name)
    Image.new("L", (20, 16), 255).save(mask)
    return Sample(path, (mask,), kind, None, path.name)


@pytest.fixture
def sound(tmp_path: Path) -> Index:
    """Ten normal images and four of holes."""
    kinds = {NORMAL: 10, "hole": 4}
    samples = tuple(
        sample(tmp_path, kind, i) for kind, count in kinds.items() for i in range(count)
    )
    return Index(tmp_path, "part", tuple(sorted(samples, key=lambda one: one.path)))


@pytest.fixture
def counts() -> dict[str, int]:
    return {NORMAL: 10, "hole": 4}


class TestLayout(LayoutSuite):
    @pytest.fixture
    def index(self, sound: Index) -> Index:
        return sound


def changed(index: Index, place: int, **keys: object) -> Index:
    """One sample otherwise; the first ten are normal."""
    samples = list(index.samples)
    samples[place] = replace(samples[place], **keys)
    return replace(index, samples=tuple(samples))


def has_no_order(index: Index) -> Index:
    return replace(index, samples=index.samples[::-1])


def says_nothing(index: Index) -> Index:
    return changed(index, 12, type=" ")


def misses_a_file(index: Index) -> Index:
    return changed(index, 0, path=index.root / "absent.png")


def misses_a_mask(index: Index) -> Index:
    return changed(index, 12, masks=())


def is_drawn_elsewhere(index: Index) -> Index:
    shapes = (Polygon("hole", ((0, 0), (9, 0), (9, 9))),)
    return changed(index, 12, outlines=Outlines(index.root / "absent.json", shapes))


def leaves_its_own(index: Index) -> Index:
    return replace(index, orphan_masks=index.samples[12].masks)


def lies_elsewhere(index: Index) -> Index:
    return replace(index, root=index.root / "below")


def parts_a_group(index: Index) -> Index:
    return changed(changed(index, 0, group="x", split="val"), 1, group="x", split="train")


def has_no_validation(index: Index) -> Index:
    samples = (replace(s, split=None if s.normal else "test") for s in index.samples)
    return replace(index, samples=tuple(samples))


LAYOUTS = (
    has_no_order,
    says_nothing,
    misses_a_file,
    misses_a_mask,
    is_drawn_elsewhere,
    leaves_its_own,
    lies_elsewhere,
    parts_a_group,
    has_no_validation,
)


class TestBrokenLayouts(LayoutSuite):
    @pytest.fixture(params=LAYOUTS)
    def index(self, request: pytest.FixtureRequest, sound: Index) -> Index:
        made: Callable[[Index], Index] = request.param
        return made(sound)
