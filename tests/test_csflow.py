"""CS-Flow against dense Jacobians, closed forms and slow loops."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from autosearch_runners.csflow.networks import Block, CrossScale, CrossScaleFlow, FinestScale
from autosearch_runners.csflow.pyramid import Pyramid, stages_between, without_last_stage
from autosearch_runners.csflow.runner import PRESETS, CsFlowDetector, CsFlowRunner, CsFlowSettings
from autosearch_runners.flows.coupling import negative_log_likelihood
from autosearch_runners.flows.detector import FlowTraining
from autosearch_runners.training import Schedule
from flow_parts import Levels, dense_log_determinant, drawn
from torch import Tensor, nn

from autosearch.backbones import TimmBackbone, profile, timm_feature_info
from autosearch.contracts import TrialContext, check_space
from autosearch.errors import ConfigError, Infeasible
from autosearch.graphs import largest_difference, onnx_bytes, onnx_run
from autosearch.metrics import image_scores
from autosearch.spec import Space, parse_spec
from autosearch.testing.images import image_set


def scales(channels: int, finest: tuple[int, int] = (8, 12), images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    rows, columns = finest
    return [
        torch.randn((images, channels, rows >> i, columns >> i), generator=generator)
        for i in range(3)
    ]


def detector_of(size: tuple[int, int] = (32, 32), epochs: int = 2, **network) -> CsFlowDetector:
    schedule = Schedule(epochs=epochs, batch=4, lr=1e-2)
    training = FlowTraining(schedule, 1e-5, 1e-4, 1.0, per_number=True)
    settings = CsFlowSettings(blocks=2, hidden=8, **network)
    return CsFlowDetector(Levels((4, 6)), settings, training, TrialContext(0, "cpu", size))


def runner_of(**space: object) -> CsFlowRunner:
    content = {
        "study": {"name": "test", "runner": "csflow"},
        "space": space or {"lr": [1e-4, 1e-3]},
        "objectives": ["gflops", "rwap"],
        "backbone": {"weights": "random"},
    }
    return CsFlowRunner(parse_spec(content))


def test_an_untrained_flow_permutes_each_scale() -> None:
    """The log-determinant is 0, and the loss per number half the mean of squares."""
    flow, maps = CrossScaleFlow(6, 4, 8, 3.0), scales(6)
    latent, log_determinants = flow(maps)
    for z, one, log_determinant in zip(latent, maps, log_determinants, strict=True):
        assert torch.equal(z.sort(dim=1)[0], one.sort(dim=1)[0])
        assert not torch.equal(z, one) and not log_determinant.any()
    numbers = sum(one[0].numel() for one in maps)
    loss = negative_log_likelihood(latent, log_determinants) / numbers
    mean_square = torch.cat([one.flatten() for one in maps]).square().mean()
    assert loss.item() == pytest.approx(mean_square.item() / 2)


@pytest.mark.parametrize("channels", [6, 7])
def test_a_flow_is_undone(channels: int) -> None:
    """Whatever its weights are, for odd numbers of channels as well."""
    flow, maps = drawn(CrossScaleFlow(channels, 4, 8, 3.0), spread=0.1), scales(channels)
    with torch.no_grad():
        latent, _ = flow(maps)
        restored = flow.inverse(latent)
    for one, z, expected in zip(restored, latent, maps, strict=True):
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-4)
        assert (z - expected).abs().max() > 0.1


def test_log_determinants_are_those_of_the_jacobian() -> None:
    """Of all three scales together, whose cells move one another."""
    flow = drawn(CrossScaleFlow(3, 2, 4, 3.0)).double()
    maps = [one.double() for one in scales(3, (4, 4), images=1)]
    _, log_determinants = flow(maps)
    expected = dense_log_determinant(lambda given: flow(given)[0], maps)
    torch.testing.assert_close(sum(one.sum() for one in log_determinants), expected)
    assert expected.abs() > 0.1


def test_permutations_differ_by_scale_and_block_alone() -> None:
    """They are the same in every trial."""
    torch.manual_seed(0)
    orders = [
        p.order.tolist() for b in CrossScaleFlow(16, 4, 4, 3.0).blocks for p in b.permutations
    ]
    torch.manual_seed(1)
    again = [
        p.order.tolist() for b in CrossScaleFlow(16, 4, 4, 3.0).blocks for p in b.permutations
    ]
    assert orders == again
    assert len({tuple(order) for order in orders}) == 3 * 4
    assert all(sorted(order) == list(range(16)) for order in orders)


def test_a_conditioner_is_that_of_the_recipe() -> None:
    """Every scale hears of its neighbours, by stride 2 from finer and enlarging from coarser."""
    net, maps = drawn(CrossScale(3, 4, 5, 3)), scales(3)
    hidden = [F.leaky_relu(net.enter[i](maps[i]), 0.1) for i in range(3)]

    def larger(one: Tensor) -> Tensor:
        size = (2 * one.shape[2], 2 * one.shape[3])
        return F.interpolate(one, size=size, mode="bilinear", align_corners=False)

    def smaller(one: Tensor, layer: nn.Conv2d) -> Tensor:
        return F.conv2d(one, layer.weight, layer.bias, padding=1)[..., ::2, ::2]

    up, down = net.to_finer, net.to_coarser
    expected = [
        net.leave[0](hidden[0]) + up[0](larger(hidden[1])),
        net.leave[1](hidden[1]) + smaller(hidden[0], down[0]) + up[1](larger(hidden[2])),
        net.leave[2](hidden[2]) + smaller(hidden[1], down[1]),
    ]
    for one, gain, sum_of_parts in zip(net(maps), net.gains, expected, strict=True):
        torch.testing.assert_close(one, gain * sum_of_parts)


def test_only_the_last_block_has_large_kernels() -> None:
    """3, 3, 3, 5 as published."""
    sides = [
        {m.kernel_size for m in block.modules() if isinstance(m, nn.Conv2d)}
        for block in CrossScaleFlow(4, 4, 4, 3.0).blocks
    ]
    assert sides == [{(3, 3)}] * 3 + [{(5, 5)}]


class Joined(nn.Module):
    """A block of one input that holds all scales side by side, as `profile` wants it."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, numbers: Tensor) -> Tensor:
        maps = [numbers[..., : 8 >> i, : 8 >> i] for i in range(3)]
        return self.block(maps)[0][0]


def test_flops_are_those_counted_by_hand() -> None:
    """Two conditioners a block: three times in and out, twice up and twice down."""
    hidden, cells = 5, [64, 16, 4]
    found = profile(Joined(Block(7, hidden, 3, 3.0, 0)), (1, 7, 8, 8))
    macs = others = 0
    for read, made in ((4, 2 * 3), (3, 2 * 4)):
        for i, count in enumerate(cells):
            outputs = count * made * (1 + (i < 2) + (i > 0))
            macs += 9 * (count * read * hidden + outputs * hidden)
            others += 2 * count * hidden + outputs
    assert found.macs == macs
    assert found.flops == 2 * macs + others


def test_smaller_images_are_those_of_nearest_resizing() -> None:
    """One backbone sees all of them."""
    extractor, images = Levels((4, 6)), torch.rand(2, 3, 32, 48)
    maps = Pyramid(extractor)
    for scale, found in enumerate(maps(images)):
        small = F.interpolate(images, (32 >> scale, 48 >> scale), mode="nearest")
        torch.testing.assert_close(found, extractor((small - 0.5) / 0.25)[-1])
        assert found.shape[2] * maps.reductions[scale] == 32
    assert maps.channels == (6, 6, 6) and maps.reductions == (4, 8, 16)


@pytest.mark.parametrize("norm", [False, True])
def test_maps_are_those_of_a_slow_loop(norm: bool) -> None:
    """Squares of the finest scale, enlarged; their mean over pixels is that over cells."""
    latent = scales(5, (4, 8))
    cells = torch.zeros(2, 4, 8)
    for image, row, column in np.ndindex(2, 4, 8):
        total = sum(x**2 for x in latent[0][image, :, row, column].tolist())
        cells[image, row, column] = total**0.5 if norm else total / 5
    expected = F.interpolate(cells[:, None], (16, 32), mode="bilinear", align_corners=False)[:, 0]
    found = FinestScale((4, 8), (16, 32), norm)(latent)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.mean(dim=(1, 2)), cells.mean(dim=(1, 2)))


def test_an_image_is_scored_by_the_mean_or_the_highest() -> None:
    """The mean is twice that of half the squares of the finest scale."""
    detector, images = detector_of(), image_set(32, 4, 0, seed=0)
    detector.fit(images)
    asked = torch.from_numpy(images.pixels.copy())
    module = detector.module()
    with torch.no_grad():
        latent, _ = module.flow(module.maps(asked))
    scores = image_scores(detector.anomaly_maps(asked).numpy(), detector.top_share)
    np.testing.assert_allclose(scores, latent[0].square().mean(dim=(1, 2, 3)), rtol=1e-5)
    assert detector_of(image_score="max").top_share is None


def test_training_makes_normal_images_likelier() -> None:
    """From half the mean of squares of the maps on."""
    detector, images = detector_of(epochs=20), image_set(32, 4, 0, seed=0)
    detector.fit(images)
    losses = [next(iter(one.values())) for one in detector._training.curve]
    maps = Pyramid(Levels((4, 6)))
    assert maps.channels == (6, 6, 6)
    module = detector.module()
    with torch.no_grad():
        squares = [one.square().flatten(1) for one in module.maps(torch.tensor(images.pixels))]
    assert losses[0] == pytest.approx(torch.cat(squares, dim=1).mean().item() / 2, rel=1e-4)
    assert losses[-1] < losses[0] - 0.2


def test_an_exported_graph_gives_the_same_maps() -> None:
    """For one image and for three, of a rectangle."""
    size = (32, 48)
    detector = detector_of(size, epochs=1)
    detector.fit(image_set(size, 3, 0, seed=0))
    graph = onnx_run(onnx_bytes(detector.module(), size, top_share=detector.top_share), threads=1)
    asked = image_set(size, 3, 0, seed=1).pixels
    expected = detector.anomaly_maps(torch.from_numpy(asked)).numpy()
    for count in (1, 3):
        maps, scores = graph(asked[:count])
        assert largest_difference(expected[:count], maps) < 1e-4
        np.testing.assert_allclose(
            scores, image_scores(expected[:count], detector.top_share), rtol=1e-4
        )


def test_sides_must_divide_thrice() -> None:
    """By the cells of the quarter image."""
    with pytest.raises(Infeasible, match="multiples of 16"):
        detector_of((32, 40))


def test_published_maps_have_so_many_numbers() -> None:
    """EfficientNet-B5 up to block 35: 304 channels of 24, 12 and 6 cells a side, 229 824."""
    table = PRESETS["original"]
    with torch.device("meta"):
        backbone = TimmBackbone("tf_efficientnet_b5", (int(table["layers"]),))
        stages = backbone.model.blocks
        assert sum(len(stage) for stage in stages[:-1]) == 36
        maps = Pyramid(without_last_stage(backbone))
        shapes = [tuple(one.shape[1:]) for one in maps(torch.zeros(1, 3, 768, 768))]
    assert shapes == [(304, 24, 24), (304, 12, 12), (304, 6, 6)]
    assert sum(map(np.prod, shapes)) == 229_824


def test_a_stage_can_be_left_out_where_a_level_has_two() -> None:
    """The map is that of the stage before, and what lies behind costs nothing."""
    assert stages_between(timm_feature_info("tf_efficientnet_lite0")) == [
        False, False, False, True, True,
    ]  # fmt: skip
    assert not any(stages_between(timm_feature_info("resnet18")))
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0")
    whole = TimmBackbone("tf_efficientnet_lite0", (4,), model.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = whole.model.blocks[:-1](whole.model.bn1(whole.model.conv_stem(images)))
        before = profile(whole, (1, 3, 64, 64))
        cut = without_last_stage(whole)
        torch.testing.assert_close(cut(images)[-1], expected)
    assert cut.feature_info[-1].channels == expected.shape[1] == 192
    assert cut.feature_info[-1].module == "model.blocks.5"
    assert profile(cut, (1, 3, 64, 64)).flops < before.flops


def test_a_runner_cuts_the_stage_off() -> None:
    """The network is smaller for it; the training is the published one."""
    runner = runner_of()
    small = {"layers": "3", "hidden": 4, "blocks": 1}
    context = TrialContext(0, "cpu", (64, 64))
    cut, whole = (
        runner.build(runner.canonical(small | {"drop_stage": drop}), context)
        for drop in (True, False)
    )
    assert cut.cost().flops < whole.cost().flops
    assert cut.cost().parameters < whole.cost().parameters
    how = whole._how
    assert (how.eps, how.clip, how.per_number, how.weight_decay) == (1e-4, 1.0, True, 1e-5)


def test_a_searched_subnet_comes_with_its_maps() -> None:
    """Of which the last is used; what would choose others has no effect."""
    runner = runner_of()
    runner._subnet = Levels((4, 6))
    runner.without_effect |= {"backbone", "layers", "drop_stage"}
    found = runner.canonical({"layers": "2", "drop_stage": True, "hidden": 4})
    assert not runner.without_effect & found.keys()
    assert runner.canonical({"hidden": 4}) == found
    detector = runner.build(found, TrialContext(0, "cpu", (32, 32)))
    assert detector._grids == [(8, 8), (4, 4), (2, 2)]


def test_presets_are_the_published_ones() -> None:
    """What the table says is what remains, and written out it stays."""
    runner, own = runner_of(), {"backbone": "tf_efficientnet_lite0"}
    found = runner.canonical({"preset": "original", **own})
    assert found == {**PRESETS["original"], **own}
    assert runner.canonical(found) == found
    space = Space.parse({key: [value] for key, value in PRESETS["original"].items()})
    check_space(space, runner.parameters, "csflow")
    assert timm.is_model(PRESETS["original"]["backbone"].split(".")[0])


def test_what_cannot_be_is_refused() -> None:
    """A stage that is not there, a level that is not there, numbers out of range."""
    runner = runner_of(backbone=["tf_efficientnet_lite0", "hgnetv2_b0"])
    with pytest.raises(Infeasible, match="no last stage"):
        runner.canonical({"layers": "2", "drop_stage": True})
    with pytest.raises(Infeasible, match="no level 4"):
        runner.canonical({"backbone": "hgnetv2_b0", "layers": "4"})
    with pytest.raises(ConfigError, match="blocks"):
        check_space(Space.parse({"blocks": [9]}), runner.parameters, "csflow")
