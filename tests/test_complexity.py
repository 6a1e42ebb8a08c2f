"""Counted cost against published figures, torch's own counter, and sums done by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autosearch.backbones import complexity
from autosearch.backbones.complexity import (
    Complexity,
    measure_latency,
    nearest_neighbour_flops,
    profile,
)
from autosearch.backbones.supernets.ofa_mobilenetv3 import (
    OFAArchitecture,
    OFAMobileNetV3,
    random_state,
)

NATIVE_HARD_ACTIVATIONS = (nn.Hardswish, nn.Hardsigmoid)


@pytest.fixture(scope="module")
def supernets() -> dict[float, OFAMobileNetV3]:
    return {width: OFAMobileNetV3(width, random_state(width, 0)) for width in (1.0, 1.2)}


@pytest.mark.parametrize(
    ("width", "kernel", "expand", "blocks", "macs", "flops"),
    [
        (1.0, 3, 3, (2, None, None, None, None), 37_907_968, 81_335_296),
        (1.0, 7, 3, (2, 5, None, None, None), 63_407_104, 133_243_200),
        (1.0, 3, 3, (None, None, None, None, 18), 111_243_472, 231_429_328),
        (1.0, 7, 6, (4, 8, 12, 16, 20), 556_135_456, 1_139_510_272),
        (1.2, 3, 3, (2, None, None, None, None), 70_973_952, 149_950_976),
        (1.2, 7, 6, (4, 8, 12, 16, 20), 828_957_552, 1_693_872_224),
    ],
)
def test_subnets_of_the_specification(supernets, width, kernel, expand, blocks, macs, flops):
    arch = OFAArchitecture(width, (kernel,) * 5, (expand,) * 5, blocks)
    cost = profile(supernets[width].subnet(arch))
    assert (cost.macs, cost.flops, cost.uncounted) == (macs, flops, ())


def test_best_subnet_for_tile_in_the_paper(supernets):
    arch = OFAArchitecture(1.0, (7, 5, 3, 3, 3), (3, 3, 3, 3, 3), (1, 5, None, None, None))
    assert profile(supernets[1.0].subnet(arch)).flops == 130_533_696


def test_published_backbones():
    models = pytest.importorskip("torchvision.models")
    wide = models.wide_resnet50_2()
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    to_layer3 = nn.Sequential(*(getattr(wide, name) for name in names))
    assert profile(to_layer3).flops == 18_413_287_424
    mobile = models.mobilenet_v3_large().features[:13]
    assert profile(mobile, free=NATIVE_HARD_ACTIVATIONS).flops == 314_952_168
    # 1,110,144 hard swishes and 1,464 hard sigmoids, which the paper's profiler did not see.
    assert profile(mobile).flops == 314_952_168 + 1_110_144 + 1_464


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU6()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout()
        self.linear = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.act(self.act(self.norm(self.conv(images))))
        return self.linear(self.drop(self.pool(features).flatten(1)))


def test_every_rule_by_hand():
    outputs = 2 * 6 * 4 * 4
    macs = outputs * 2 * 9 + 2 * 5 * 6
    bias, norm, activations, pool = outputs + 2 * 5, 2 * outputs, 2 * outputs, outputs
    expected = Complexity(
        macs=macs,
        flops=2 * macs + bias + norm + activations + pool,
        parameters=6 * 2 * 9 + 6 + 12 + 6 * 5 + 5,
    )
    assert profile(Toy(), (2, 4, 8, 8)) == expected


def test_multiply_adds_agree_with_torch(supernets):
    arch = OFAArchitecture(1.0, (5, 3, 7, 5, 3), (4, 3, 6, 4, 3), (None, 7, None, 14, None))
    cases = [(Toy(), (3, 4, 10, 10)), (supernets[1.0].subnet(arch), (1, 3, 96, 64))]
    for module, shape in cases:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module.eval()(torch.zeros(shape))
        assert 2 * profile(module, shape).macs == counter.get_total_flops()


def test_module_is_left_as_it_was():
    module = Toy()
    module.norm.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    profile(module, (2, 4, 8, 8))
    with pytest.raises(RuntimeError, match="channels"):
        profile(module, (2, 3, 8, 8))
    assert module.training and module.conv.training and not module.norm.training
    assert all(not child._forward_hooks for child in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_layers_without_a_rule_are_named():
    module = nn.Sequential(nn.ConvTranspose2d(3, 2, 2), nn.Softplus(), nn.Sequential(), nn.ReLU())
    cost = profile(module, (1, 3, 4, 4))
    assert cost.uncounted == ("ConvTranspose2d", "Softplus")
    assert cost.flops == 2 * 5 * 5

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.attention(tokens, tokens, tokens)[0]

    assert "MultiheadAttention" in profile(Attend(), (3, 1, 4)).uncounted


def test_norms_with_an_activation_inside_count_both():
    timm_layers = pytest.importorskip("timm.layers")
    norm = timm_layers.BatchNormAct2d(2, act_layer=nn.ReLU)
    cost = profile(norm, (1, 2, 3, 3))
    assert (cost.flops, cost.uncounted) == ((2 + 1) * 18, ())


def test_full_bank_search_of_the_specification():
    flops = nearest_neighbour_flops(56 * 56, 250 * 56 * 56, 24)
    assert flops == 118_013_952_000


def transformer_by_hand(side: int, own: int) -> tuple[int, int]:
    """Multiply-adds and FLOPs of ViT-S/16 with so many tokens beside those of patches."""
    width, hidden, blocks = 384, 4 * 384, 12
    patches = (side // 16) ** 2
    tokens = patches + own
    embedding = patches * width * 3 * 16 * 16
    layers = tokens * (3 * width * width + width * width + 2 * width * hidden)
    attention = 2 * tokens * tokens * width  # Queries with keys, weights with values.
    biases = tokens * (3 * width + width + hidden + width)
    macs = embedding + blocks * (layers + attention)
    # A GELU for every hidden number.
    return macs, 2 * macs + patches * width + blocks * (biases + tokens * hidden)


@pytest.mark.parametrize("side", [224, 448])
def test_attention_of_a_small_transformer_by_hand(side):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model("vit_small_patch16_224", img_size=side, num_classes=0)
        cost = profile(model, (1, 3, side, side))
    assert (cost.macs, cost.flops) == transformer_by_hand(side, 1)


@pytest.mark.parametrize("name", ["Attention", "AttentionRope", "EvaAttention", "WindowAttention"])
def test_every_attention_of_timm_and_every_kernel_is_seen(name):
    eva = pytest.importorskip("timm.models.eva")
    swin = pytest.importorskip("timm.models.swin_transformer")
    layers = pytest.importorskip("timm.layers")
    made = {
        "Attention": lambda: layers.Attention(8, num_heads=2),
        "AttentionRope": lambda: layers.AttentionRope(8, num_heads=2),
        # Its weights of queries, keys and values are used without calling their layer.
        "EvaAttention": lambda: eva.EvaAttention(8, num_heads=2, norm_layer=nn.LayerNorm),
        "WindowAttention": lambda: swin.WindowAttention(8, num_heads=2, window_size=4),
    }
    tokens = 16
    expected = tokens * 4 * 8 * 8 + 2 * tokens * tokens * 8
    for fused in (True, False):
        module = made[name]()
        module.fused_attn = fused
        assert profile(module, (1, tokens, 8)).macs == expected, fused


def test_products_of_free_layers_are_not_counted_twice():
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    assert profile(module, (2, 4), free=(nn.Linear,)).flops == 2 * 3
    assert profile(module, (2, 4)).macs == 2 * 4 * 3


def test_latency_is_the_median_after_warm_up(monkeypatch):
    clock, durations = [0.0], iter([9.0, 9.0, 0.001, 0.005, 0.002])

    def call() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr(complexity.time, "perf_counter", lambda: clock[0])
    assert measure_latency(call, warmup=2, repeats=3) == pytest.approx(2.0)
    assert next(durations, None) is None
