"""The elastic supernet, its statistics, and the start it takes from a teacher."""

import copy

import numpy as np
import pytest
import timm
import torch
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3 as Reference
from supernet_parts import LITE, lively_state, noise
from torch import Tensor, nn

from autosearch.backbones.recalibration import recalibrate
from autosearch.backbones.supernets.elastic import ActiveSizes, ElasticOFA, calibrate, released_key
from autosearch.backbones.supernets.feature_loss import normalise
from autosearch.backbones.supernets.ofa_layout import plain_state, shape_table
from autosearch.backbones.supernets.ofa_mobilenetv3 import OFAMobileNetV3
from autosearch.backbones.supernets.teacher import Teacher
from autosearch.backbones.supernets.transplant import initial_state, sort_channels
from autosearch.backbones.supernets.verify import channel_correlation
from autosearch.backbones.weights import resolve
from autosearch.errors import ConfigError

LARGEST, SMALLEST = ActiveSizes.largest(), ActiveSizes.smallest()


@pytest.mark.parametrize("width", [1.0, 1.2])
def test_any_size_equals_the_static_subnet(width: float):
    state = lively_state(width)
    net, supernet = ElasticOFA(width, state), OFAMobileNetV3(width, state)
    net.training = False
    draw = np.random.default_rng(0)
    for sizes in (LARGEST, SMALLEST, *(ActiveSizes.random(draw) for _ in range(6))):
        static = supernet.subnet(sizes.architecture(width))(noise(1, 3, 64, 64))
        with torch.no_grad():
            elastic = net.forward(noise(1, 3, 64, 64), sizes)
        assert len(elastic) == 6
        for a, b in zip(elastic[1:], static, strict=True):
            assert torch.equal(a, b)


def test_random_sizes_reach_every_choice():
    draw = np.random.default_rng(0)
    drawn = [ActiveSizes.random(draw) for _ in range(60)]
    for stage in range(5):
        assert {s.kernel_sizes[stage] for s in drawn} == {3, 5, 7}
        assert {s.expand_ratios[stage] for s in drawn} == {3, 4, 6}
        assert {s.depths[stage] for s in drawn} == {2, 3, 4}


def test_training_updates_statistics_of_active_channels_only():
    net = ElasticOFA(1.0, lively_state(1.0))
    before = copy.deepcopy(net.tensors)
    net.momentum = None
    net.forward(noise(2, 3, 32, 32), LARGEST)
    assert all(torch.equal(before[name], net.tensors[name]) for name in before)
    net.momentum = 0.5
    net.forward(noise(2, 3, 32, 32), SMALLEST)
    name = "blocks.1.conv.depth_conv.bn.running_var"
    changed = (before[name] != net.tensors[name]).nonzero().flatten().tolist()
    assert changed == list(range(48))  # 16 inputs times 3
    name = "blocks.3.conv.depth_conv.bn.running_var"
    assert torch.equal(before[name], net.tensors[name])


def test_reference_package_loads_the_result():
    net = ElasticOFA(1.0, lively_state(1.0))
    released = net.released_state()
    assert len(released) == 475
    assert set(plain_state(1.0, released)) == set(shape_table(1.0))
    reference = Reference(
        dropout_rate=0, width_mult=1.0, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6],
        depth_list=[2, 3, 4],
    )  # fmt: skip
    reference.load_state_dict(released)
    reference.eval()
    net.training = False
    sizes = ActiveSizes.random(np.random.default_rng(3))
    reference.set_active_subnet(
        [k for k in sizes.kernel_sizes for _ in range(4)],
        [e for e in sizes.expand_ratios for _ in range(4)],
        list(sizes.depths),
    )
    with torch.no_grad():
        x = reference.blocks[0](reference.first_conv(noise(1, 3, 64, 64)))
        ours = net.forward(noise(1, 3, 64, 64), sizes)
        for stage, blocks in enumerate(reference.block_group_info):
            for number in blocks[: sizes.depths[stage]]:
                x = reference.blocks[number](x)
            torch.testing.assert_close(ours[stage + 1], x)


def test_every_tensor_and_choice_has_gradients():
    net = ElasticOFA(1.0, lively_state(1.0))
    assert len(net.parameters()) == 9 + 20 * 11 + 12 * 4
    assert not any(
        name.startswith(("classifier", "final", "feature")) for name in net.parameters()
    )
    kernel = net.tensors["blocks.4.conv.depth_conv.conv.weight"]
    for size in (7, 5, 3):
        for parameter in net.parameters().values():
            parameter.grad = None
        sizes = ActiveSizes((size,) * 5, (6,) * 5, (4,) * 5)
        torch.stack(
            [m.square().mean() for m in net.forward(noise(2, 3, 64, 64), sizes)]
        ).sum().backward()
        for name, parameter in net.parameters().items():
            used = "_matrix" not in name or size <= int(name.split("to")[1][0])
            assert (parameter.grad is not None) == used, name
            assert not used or parameter.grad.count_nonzero() > 0, name
        ring = kernel.grad.abs().sum((0, 1)) > 0
        side = {7: 7, 5: 5, 3: 5}[size]  # the transform to 3x3 reads the whole 5x5
        assert ring.sum() == side**2
    for parameter in net.parameters().values():
        parameter.grad = None
    net.forward(noise(2, 3, 64, 64), SMALLEST)[-1].sum().backward()
    assert kernel.grad is None
    projection = net.tensors["blocks.1.conv.point_linear.conv.weight"].grad
    assert projection[:, :48].count_nonzero() > 0
    assert projection[:, 48:].count_nonzero() == 0


def test_released_names():
    names = {
        "first_conv.bn.weight": "first_conv.bn.weight",
        "blocks.0.conv.point_linear.conv.weight": (
            "blocks.0.mobile_inverted_conv.point_linear.conv.weight"
        ),
        "blocks.7.conv.depth_conv.conv.weight": (
            "blocks.7.mobile_inverted_conv.depth_conv.conv.conv.weight"
        ),
        "blocks.7.conv.depth_conv.bn.bias": (
            "blocks.7.mobile_inverted_conv.depth_conv.bn.bn.bias"
        ),
        "blocks.7.conv.depth_conv.conv.7to5_matrix": (
            "blocks.7.mobile_inverted_conv.depth_conv.conv.7to5_matrix"
        ),
        "blocks.7.conv.depth_conv.se.fc.reduce.bias": (
            "blocks.7.mobile_inverted_conv.depth_conv.se.fc.reduce.bias"
        ),
    }
    assert {plain: released_key(plain) for plain in names} == names


def test_recalibration_measures_each_norm_on_its_own_inputs():
    supernet = OFAMobileNetV3(1.0, lively_state(1.0))
    extractor = supernet.subnet(SMALLEST.architecture(1.0))
    kept = copy.deepcopy(extractor.state_dict())
    images = torch.rand((6, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    fresh = recalibrate(extractor, images, batch_size=6)
    assert all(torch.equal(kept[name], value) for name, value in extractor.state_dict().items())
    assert not fresh.training
    assert {m.momentum for m in fresh.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}

    # Seen by batch statistics again, every norm gets the mean and variance that it stores.
    seen: dict[nn.Module, Tensor] = {}
    norms = [m for m in fresh.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = 0.0
        norm.register_forward_hook(lambda m, args, out: seen.update({m: args[0].clone()}))
    fresh(normalise(images))
    for norm in norms:
        inputs = seen[norm].transpose(0, 1).flatten(1)
        torch.testing.assert_close(norm.running_mean, inputs.mean(1), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(norm.running_var, inputs.var(1), atol=1e-4, rtol=2e-3)


def test_calibrating_the_supernet_is_recalibrating_the_subnet():
    state = lively_state(1.0)
    images = torch.rand((8, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    net = ElasticOFA(1.0, state)
    calibrate(net, normalise(images).split(4), LARGEST)
    assert not net.training
    stored = OFAMobileNetV3(1.0, state).subnet(LARGEST.architecture(1.0))
    fresh = recalibrate(stored, images, batch_size=4)
    ours = OFAMobileNetV3(1.0, net.released_state()).subnet(LARGEST.architecture(1.0))
    for a, b in zip(ours(normalise(images)), fresh(normalise(images)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_no_images_are_lost_to_a_short_last_batch():
    images = torch.rand((7, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    extractor = OFAMobileNetV3(1.0, lively_state(1.0)).subnet(SMALLEST.architecture(1.0))
    norm = next(m for m in recalibrate(extractor, images, 3).modules() if hasattr(m, "eps"))
    assert norm.num_batches_tracked == 2
    one = recalibrate(extractor, images[:1], 3)
    assert all(value.isfinite().all() for value in one.state_dict().values())


def test_teacher_is_tapped_at_every_stage(teacher: Teacher, teacher_state: dict[str, Tensor]):
    assert [tap.channels for tap in teacher.taps] == [16, 24, 40, 80, 112, 192]
    assert [tap.reduction for tap in teacher.taps] == [2, 4, 8, 16, 16, 32]
    images = noise(1, 3, 64, 64).sigmoid()
    model = timm.create_model(LITE).eval()
    model.load_state_dict(teacher_state)
    wanted: list[Tensor] = []
    for stage in list(model.blocks)[:6]:
        stage.register_forward_hook(lambda m, args, out: wanted.append(out))
    with torch.no_grad():
        model((images - 0.5) / 0.5)
        for found, expected in zip(teacher(images), wanted, strict=True):
            torch.testing.assert_close(found, expected)


def test_any_timm_model_can_teach():
    teacher = Teacher("resnet18", resolve("resnet18", "random", 0).state)
    channels = [tap and tap.channels for tap in teacher.taps]
    assert channels == [64, 64, 128, None, 256, 512]
    maps = teacher(torch.zeros(1, 3, 64, 64))
    assert [None if m is None else m.shape[-1] for m in maps] == [32, 16, 8, None, 4, 2]
    assert initial_state(1.0, teacher.stages[1:], 0)[1] == 0
    with pytest.raises(ConfigError, match="a timm model"):
        Teacher("no_such_model", {})


def test_the_start_is_drawn_from_the_seed(teacher: Teacher):
    first, same, other = (initial_state(1.0, teacher.stages[1:], seed)[0] for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    for name, copied in (
        ("blocks.1.conv.point_linear", True),
        ("blocks.4.conv.point_linear", False),
    ):
        assert torch.equal(first[f"{name}.conv.weight"], other[f"{name}.conv.weight"]) == copied


def test_sorting_channels_keeps_the_function():
    state = lively_state(1.0)
    net = ElasticOFA(1.0, state)
    for number in range(1, 21):
        sort_channels(state, number)
        weight = state[f"blocks.{number}.conv.point_linear.conv.weight"].abs().sum((0, 2, 3))
        assert (weight.diff() <= 0).all()
    ordered = ElasticOFA(1.0, state)
    net.training = ordered.training = False
    with torch.no_grad():
        pairs = zip(
            *(n.forward(noise(1, 3, 64, 64), LARGEST) for n in (net, ordered)), strict=True
        )
        for a, b in pairs:
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_copied_stages_compute_what_the_teacher_does(teacher: Teacher, training: bool):
    stages = [copy.deepcopy(stage) for stage in teacher.stages[1:]]
    state, copied = initial_state(1.0, stages, seed=0)
    assert copied == 14
    for name in state:
        if name.endswith("se.fc.expand.weight"):
            state[name].zero_()  # the gate is constant, so it can be undone exactly
    net = ElasticOFA(1.0, state)
    net.training, net.momentum = training, None
    # Stages 0 and 1 differ from the teacher's by their activation's bound only: lift it.
    for stage, channels, kernel in ((0, 16, 3), (1, 24, 5)):
        for block in stages[stage]:
            block.bn1.act = block.bn2.act = nn.ReLU()
            assert block.conv_dw.kernel_size[0] == kernel
        sizes = ActiveSizes((7,) * 5, (6,) * 5, (2,) * 5)
        inputs = noise(4, channels, 16, 16)
        with torch.no_grad():
            wanted = stages[stage].train(training)(inputs)
            found = net.stage(stage, inputs, sizes)
        # In training the epsilons are folded for the stored variances, not for the batch's.
        tolerance = 0.05 if training else 1e-4
        assert (found - wanted).square().mean().sqrt() < tolerance * wanted.std()


def test_wider_supernets_start_near_the_teacher(teacher: Teacher):
    state, copied = initial_state(1.2, teacher.stages[1:], seed=0)
    assert copied == 14
    net = ElasticOFA(1.2, state)
    net.training = False
    with torch.no_grad():
        maps = teacher(noise(2, 3, 64, 64).sigmoid())
        inputs = torch.cat([maps[1], torch.zeros(2, 8, 16, 16)], 1)
        found = net.stage(1, inputs, ActiveSizes((7,) * 5, (6,) * 5, (2,) * 5))
    assert channel_correlation(found[:, :40], maps[2]) > 0.9
