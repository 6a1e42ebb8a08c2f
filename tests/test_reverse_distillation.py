"""Reverse distillation: its distances, its student, what it learns, costs, exports and refuses."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.reverse_distillation.detector import (
    ReverseDistillationDetector,
    ReverseSettings,
)
from autosearch_runners.reverse_distillation.distances import (
    DistanceMaps,
    cosine_distances,
    level_loss,
)
from autosearch_runners.reverse_distillation.networks import Student
from autosearch_runners.reverse_distillation.runner import PRESETS, ReverseDistillationRunner
from autosearch_runners.training import Schedule
from canonical import check_without_effect
from scipy import ndimage
from torch import Tensor, nn

from autosearch.backbones import (
    FeatureExtractor,
    FeatureInfo,
    OFAArchitecture,
    OFAMobileNetV3,
    profile,
)
from autosearch.backbones.supernets.ofa_layout import random_state
from autosearch.contracts import TrialContext, check_space
from autosearch.errors import ConfigError, Infeasible
from autosearch.graphs import largest_difference, onnx_bytes, onnx_run
from autosearch.spec import Params, parse_spec
from autosearch.testing.images import image_set

SIDE = 64
QUICK: Params = {"layers": "1+2", "epochs": 1, "batch": 2}
TRAIN = image_set(SIDE, 4, 0, seed=0)
ASKED = torch.from_numpy(image_set(SIDE, 2, 1, seed=1).pixels.copy())


@cache
def runner_of(weights: str = "random", **space: object) -> ReverseDistillationRunner:
    content = {
        "study": {"name": "test", "runner": "reverse_distillation"},
        "space": space or {"lr": [1e-3, 5e-3]},
        "objectives": ["gflops", "rwap"],
        "backbone": {"weights": weights},
    }
    return ReverseDistillationRunner(parse_spec(content))


def fitted(params: Params, size: tuple[int, int] = (SIDE, SIDE)) -> ReverseDistillationDetector:
    runner = runner_of()
    detector = runner.build(runner.canonical(QUICK | params), TrialContext(0, "cpu", size))
    detector.fit(image_set(size, 4, 0, seed=0))
    return detector


def level(number: int, channels: int, reduction: int) -> FeatureInfo:
    return FeatureInfo(number, channels, reduction, f"level{number}")


def maps_of(
    levels: Sequence[FeatureInfo], height: int, width: int, count: int = 2
) -> list[Tensor]:
    """What a teacher may make of images of a size."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(count, one.channels, height // one.reduction, width // one.reduction)
              for one in levels]  # fmt: skip
    return [torch.randn(shape, generator=generator) for shape in shapes]


class Pools(FeatureExtractor):
    """Means of squares of pixels as a teacher; one row is lost where it is to be wrong."""

    def __init__(self, *reductions: int, lost: int = 0) -> None:
        super().__init__()
        self.feature_info = tuple(level(i, 3, one) for i, one in enumerate(reductions))
        self.mean, self.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
        self.pools = nn.ModuleList(nn.AvgPool2d(one) for one in reductions)
        self.lost = lost

    def forward(self, images: Tensor) -> list[Tensor]:
        return [pool(images)[:, :, self.lost :] for pool in self.pools]


# Distances.


def test_distances_are_cosines() -> None:
    """0 of vectors that point alike, however long, 1 of right angles, 2 of opposites."""
    wanted = torch.tensor([[3.0, 4.0]]).view(1, 2, 1, 1).expand(1, 2, 1, 5)
    found = torch.tensor([[0.3, -4, -6, 4, 0], [0.4, 3, -8, 3, 0]])[None, :, None]
    expected = torch.tensor([[[0, 1, 2, 1 - 24 / 25, 1]]])
    torch.testing.assert_close(cosine_distances(wanted, found), expected)


def test_vectors_of_zeros_have_gradients() -> None:
    found = torch.zeros(1, 2, 1, 1, requires_grad=True)
    for compared in ("cell", "map"):
        level_loss(torch.ones(1, 2, 1, 1), found, None, compared).backward()  # type: ignore[arg-type,no-untyped-call]
    assert found.grad is not None and found.grad.isfinite().all()


@pytest.mark.parametrize("masked", [False, True])
def test_losses_are_means_over_what_counts(masked: bool) -> None:
    """Against loops over cells, and over images as one vector each."""
    wanted, found = torch.randn(2, 3, 5, 2, 4, generator=torch.Generator().manual_seed(1))
    counted = torch.ones(3, 2, 4, dtype=torch.bool)
    if masked:
        counted[0, 0], counted[1] = False, False
    cells, whole = [], []
    for a, b, inside in zip(wanted, found, counted, strict=True):
        places = inside.nonzero().tolist()
        pairs = [(a[:, y, x].double(), b[:, y, x].double()) for y, x in places]
        cells += [1 - p @ q / (p.norm() * q.norm()) for p, q in pairs]
        if pairs:
            p, q = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            whole.append(1 - p @ q / (p.norm() * q.norm()))
    given = counted if masked else None
    for compared, expected in (("cell", cells), ("map", whole)):
        loss = level_loss(wanted, found, given, compared)  # type: ignore[arg-type]
        assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


@pytest.mark.parametrize("compared", ["cell", "map"])
def test_what_does_not_count_has_no_gradient(compared: str) -> None:
    wanted, found = maps_of([level(0, 4, 2)], 4, 8)[0], torch.ones(2, 4, 2, 4, requires_grad=True)
    counted = torch.zeros(2, 2, 4, dtype=torch.bool)
    counted[0, 1, 2] = True
    level_loss(wanted, found, counted, compared).backward()  # type: ignore[arg-type,no-untyped-call]
    assert found.grad is not None
    touched = found.grad.abs().sum(dim=1) > 0
    assert torch.equal(touched, counted)
    nothing = level_loss(wanted, found, torch.zeros_like(counted), compared)  # type: ignore[arg-type]
    assert nothing.item() == 0


@pytest.mark.parametrize("mode", ["add", "multiply"])
@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_maps_are_resized_joined_and_smoothed(mode: str, sigma: float) -> None:
    """Against torch's resizing and scipy's Gaussian, on a rectangle."""
    levels, size = [level(0, 4, 4), level(1, 6, 8)], (16, 24)
    wanted, found = maps_of(levels, *size), [one.flip(0) for one in maps_of(levels, *size)]
    maps = DistanceMaps([(4, 6), (2, 3)], size, mode, sigma)(wanted, found)  # type: ignore[arg-type]
    large = [
        F.interpolate((1 - F.cosine_similarity(a, b))[:, None], size, mode="bilinear")[:, 0]
        for a, b in zip(wanted, found, strict=True)
    ]
    joined = (large[0] + large[1] if mode == "add" else large[0] * large[1]).double().numpy()
    if sigma:
        joined = ndimage.gaussian_filter(joined, (0, sigma, sigma), mode="reflect")
    np.testing.assert_allclose(maps.numpy(), joined, atol=1e-5)


# The student.

TEACHERS = {
    "one level": [level(1, 24, 4)],
    "three levels": [level(1, 24, 4), level(2, 40, 8), level(3, 112, 16)],
    "a level left out": [level(1, 24, 4), level(3, 112, 16)],
    "two of one resolution": [level(5, 40, 8), level(9, 80, 16), level(12, 112, 16)],
    "all of one resolution": [level(2, 64, 16), level(5, 64, 16)],
}


@pytest.mark.parametrize("levels", TEACHERS.values(), ids=TEACHERS)
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_a_student_mirrors_its_teacher(levels: list[FeatureInfo], size: tuple[int, int]) -> None:
    """As many maps of the same shapes, also where the embedding has an odd number of rows."""
    given = maps_of(levels, *size)
    student = Student(levels, 0.5, 2)
    found = student(given)
    assert [one.shape for one in found] == [one.shape for one in given]
    coarsest = levels[-1].reduction
    embedding = student.embedding(student.fusion(given))
    channels = 2 * max(8, levels[-1].channels // 2)
    sides = [-(-side // (2 * coarsest)) for side in size]
    assert embedding.shape == (2, channels, *sides)
    # Nothing goes past the embedding: of one without content all maps are the same.
    with torch.no_grad():
        student.eval().embedding.register_forward_hook(lambda *call: torch.zeros_like(call[2]))
        for one, other in zip(student(given), student([2 * m for m in given]), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("reductions", [(4, 12, 24), (8, 4, 16)])
def test_levels_that_cannot_be_joined(reductions: tuple[int, ...]) -> None:
    levels = [level(number, 8, reduction) for number, reduction in enumerate(reductions)]
    with pytest.raises(Infeasible, match=f"1/{reductions[0]} and 1/{reductions[1]} of"):
        Student(levels, 1.0, 1)


class Rebuilt(nn.Module):
    """A student of given maps."""

    def __init__(self, student: Student, given: list[Tensor]) -> None:
        super().__init__()
        self.student, self.given = student, given

    def forward(self, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = self.student(self.given)
        return found


def test_cost_of_the_student() -> None:
    """Counted by hand, every convolution of two levels of 8 x 8 and 4 x 4 cells."""
    levels = [level(0, 16, 4), level(1, 32, 8)]
    fine, coarse, least = 64, 16, 4
    macs = fine // 4 * 9 * 16 * 32  # The fine level's way to the coarse one's 32 channels.
    # Embedding of 64 channels, half of them inside: 1x1, 3x3 with a stride of 2, 1x1, shortcut.
    macs += coarse * 64 * 32 + least * (9 * 32 * 32 + 32 * 64 + 64 * 64)
    # Coarse level: 1x1 before rows are repeated, then 3x3 and 1x1; its shortcut; its head.
    macs += least * (64 * 16 + 64 * 32) + coarse * (9 * 16 * 16 + 16 * 32 + 32 * 32)
    macs += coarse * (32 * 8 + 32 * 16) + fine * (9 * 8 * 8 + 8 * 16 + 16 * 16)
    student = Student(levels, 1.0, 1)
    found = profile(Rebuilt(student, maps_of(levels, 32, 32, count=1)), (1, 3, 32, 32))
    assert found.macs == macs and not found.uncounted
    detector = fitted({"decoder_width": 2.0})
    own = runner_of().extractor(runner_of().canonical(QUICK | {"decoder_width": 2.0}))
    alone = Student(own.feature_info, 2.0, 1)
    given = maps_of(own.feature_info, SIDE, SIDE, count=1)
    parts = profile(own, (1, 3, SIDE, SIDE)).macs, profile(Rebuilt(alone, given)).macs
    # Each level's map of distances is resized by two products of matrices.
    spread = sum(SIDE * grid * (grid + SIDE) for grid in (16, 8))
    assert detector.cost().macs == sum(parts) + spread


# The detector.


def test_norms_follow_training_batches_and_stay_in_inference() -> None:
    """Those of the student see every step, those of the teacher none."""
    runner = runner_of()
    params: Params = QUICK | {"epochs": 3}
    detector = runner.build(runner.canonical(params), TrialContext(0, "cpu", (SIDE, SIDE)))
    before = {name: one.clone() for name, one in detector._extractor.state_dict().items()}
    detector.fit(TRAIN)
    for name, one in detector._extractor.state_dict().items():
        assert torch.equal(one, before[name])
    module = detector.module()
    assert not any(isinstance(one, nn.BatchNorm2d) for one in module.teacher.modules())
    norms = [one for one in module.student.modules() if isinstance(one, nn.BatchNorm2d)]
    assert {int(norm.num_batches_tracked or 0) for norm in norms} == {3 * 2}
    assert all(norm.running_mean is not None and norm.running_mean.any() for norm in norms)
    assert not any(norm.training for norm in norms)
    detector.anomaly_maps(ASKED)
    assert {int(norm.num_batches_tracked or 0) for norm in norms} == {3 * 2}
    assert all(one.grad is None and not one.requires_grad for one in module.parameters())


def test_a_defect_stands_out_after_a_short_training() -> None:
    runner, size = runner_of("bundled"), (SIDE, SIDE)
    params: Params = {"epochs": 25, "batch": 4, "smoothing_sigma": 2.0}
    detector = runner.build(runner.canonical(params), TrialContext(0, "cpu", size))
    detector.fit(image_set(SIDE, 8, 0, seed=0))
    asked = image_set(SIDE, 2, 2, seed=1)
    maps = detector.anomaly_maps(torch.from_numpy(asked.pixels.copy())).numpy()
    inside = [one[mask].mean() for one, mask in zip(maps[:2], asked.masks[:2], strict=True)]
    assert min(inside) > 1.5 * maps[2:].mean()
    assert "level 2" in detector.artifacts()["curves.json"].decode()


def test_exported_graphs_give_the_same_maps() -> None:
    """Of one image and of three, on a rectangle whose embedding has an odd number of rows."""
    size = (12, 20)
    settings = ReverseSettings(map_mode="multiply", schedule=Schedule(epochs=1))
    context = TrialContext(0, "cpu", size)
    check_export(ReverseDistillationDetector(Pools(2, 4), settings, context), size)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["add", "multiply"])
def test_exported_graphs_with_a_backbone_give_the_same_maps(mode: str) -> None:
    runner, size = runner_of(), (48, 80)
    canonical = runner.canonical({"map_mode": mode, "epochs": 1})
    check_export(runner.build(canonical, TrialContext(0, "cpu", size)), size)


def check_export(detector: ReverseDistillationDetector, size: tuple[int, int]) -> None:
    """Fit, and compare what ONNX Runtime makes of the graph."""
    detector.fit(image_set(size, 4, 0, seed=0))
    run = onnx_run(onnx_bytes(detector.module(), size), threads=1)
    for count in (1, 3):
        images = image_set(size, count, 0, seed=4).pixels.copy()
        maps = detector.anomaly_maps(torch.from_numpy(images)).numpy()
        found = max(run(images), key=lambda answer: answer.ndim)
        assert largest_difference(maps, found.reshape(maps.shape)) < 1e-4


def test_a_subnet_is_a_teacher() -> None:
    """With two levels of one resolution and one of half that."""
    architecture = OFAArchitecture(
        1.0, (3,) * 5, (3,) * 5, extraction_blocks=(None, None, 10, 14, 18)
    )
    subnet = OFAMobileNetV3(1.0, random_state(1.0, 0)).subnet(architecture)
    context = TrialContext(0, "cpu", (128, 96))
    settings = ReverseSettings(schedule=Schedule(epochs=1))
    detector = ReverseDistillationDetector(subnet, settings, context)
    detector.fit(image_set((128, 96), 2, 0, seed=0))
    assert detector.anomaly_maps(torch.rand(1, 3, 128, 96)).isfinite().all()


def test_memory_grows_with_images_until_maps_are_not_kept() -> None:
    runner = runner_of()
    detector = runner.build(runner.canonical({}), TrialContext(0, "cpu", (SIDE, SIDE)))
    numbers = 24 * 16 * 16 + 40 * 8 * 8 + 112 * 4 * 4
    assert detector.memory(200) - detector.memory(100) == 4 * 100 * numbers
    assert detector.memory(10**6) < 1 << 30


@pytest.mark.parametrize(
    ("teacher", "size", "told"),
    [
        (Pools(4, 8), (20, 16), "multiples of 8"),
        (Pools(4, 8), (16, 16), "no more than one"),
        (Pools(4, 8, lost=1), (32, 32), "cuts borders off"),
        (Pools(4, 12), (48, 48), "no strides of 2"),
    ],
)
def test_images_that_do_not_fit(teacher: Pools, size: tuple[int, int], told: str) -> None:
    with pytest.raises(Infeasible, match=told):
        ReverseDistillationDetector(teacher, ReverseSettings(), TrialContext(0, "cpu", size))


# The runner.


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip(name: str) -> None:
    """A preset is its table, and what is written out is itself; what is named has precedence."""
    runner = runner_of()
    runner._levels = {**runner._levels, "wide_resnet50_2": 5}
    found = runner.canonical({"preset": name})
    assert found == PRESETS[name] and runner.canonical(found) == found
    assert runner.canonical({"preset": name, "batch": 4}) == {**PRESETS[name], "batch": 4}
    for key, value in PRESETS[name].items():
        space = parse_spec({"study": {"name": "t", "runner": "reverse_distillation"},
                            "space": {key: [value]}, "objectives": ["rwap"]})  # fmt: skip
        check_space(space.parsed_space, runner.parameters, "reverse_distillation")


def test_published_values() -> None:
    """Section 4 of the paper and its code; the appendix of MIAD."""
    shared = {"backbone": "wide_resnet50_2", "layers": "1+2+3", "lr": 5e-3, "epochs": 200,
              "smoothing_sigma": 4.0, "decoder_width": 1.0, "compared": "map"}  # fmt: skip
    own = {"original": ("add", 16), "miad": ("multiply", 32)}
    for name, (mode, batch) in own.items():
        expected = {**shared, "map_mode": mode, "batch": batch}
        assert expected.items() <= PRESETS[name].items()


def test_one_level_needs_no_mode() -> None:
    check_without_effect(runner_of(), {"layers": "2"}, {"map_mode": "multiply"})
    asked = {"layers": "2", "map_mode": "multiply"}
    maps = [fitted({"layers": "2"}), runner_of().build({**QUICK, **asked},
            TrialContext(0, "cpu", (SIDE, SIDE)))]  # fmt: skip
    maps[1].fit(TRAIN)
    assert torch.equal(*(detector.anomaly_maps(ASKED) for detector in maps))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decoder_width", 2.0),
        ("decoder_blocks", 2),
        ("compared", "map"),
        ("map_mode", "multiply"),
        ("smoothing_sigma", 1.0),
        ("layers", "2+3"),
        ("lr", 1e-3),
        ("patience", 1),
        ("images_per_epoch", 2),
    ],
)
def test_what_has_an_effect_remains(name: str, value: float) -> None:
    runner = runner_of()
    assert runner.canonical({name: value})[name] == value
    assert not torch.equal(fitted({name: value}).anomaly_maps(ASKED), plain_maps())


@cache
def plain_maps() -> Tensor:
    return fitted({}).anomaly_maps(ASKED)


def test_spaces_are_checked_against_the_table() -> None:
    for space in ({"map_mode": "mean"}, {"decoder_width": 0.0}, {"preset": ["mine"]}):
        spec = parse_spec({"study": {"name": "t", "runner": "reverse_distillation"},
                           "space": space, "objectives": ["rwap"]})  # fmt: skip
        with pytest.raises(ConfigError, match=f"space.{next(iter(space))}"):
            check_space(spec.parsed_space, runner_of().parameters, "reverse_distillation")
