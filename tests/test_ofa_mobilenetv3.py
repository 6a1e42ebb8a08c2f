"""The supernet against its specification and against the reference implementation."""

import copy
import random
import re

import pytest
import torch
from supernet_parts import lively_state, noise
from torch import Tensor, nn

from autosearch.backbones.features import (
    FeatureExtractor,
    fold_batch_norm,
    optimise_for_inference,
)
from autosearch.backbones.supernets.ofa_layout import channel_widths, plain_key, squeeze_width
from autosearch.backbones.supernets.ofa_mobilenetv3 import (
    OFAArchitecture,
    OFAMobileNetV3,
    feature_info,
    kernel_transform_flops,
    parameter_count,
    random_state,
    shape_table,
    transform_kernel,
)
from autosearch.backbones.weights import tensors_sha256
from autosearch.errors import ConfigError, Infeasible, WeightsError
from autosearch.testing import BackboneSuite

SIDE = 64


@pytest.fixture(scope="module", params=[1.0, 1.2], ids=["w1.0", "w1.2"])
def supernet(request: pytest.FixtureRequest) -> OFAMobileNetV3:
    return OFAMobileNetV3(request.param, lively_state(request.param))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return noise(1, 3, SIDE, SIDE)


def architecture(width: float = 1.0, kernel: int = 7, expand: int = 6, **blocks: int | None):
    """Build with one kernel and expansion, extracting at ``s0=…`` to ``s4=…``."""
    chosen = tuple(blocks.get(f"s{s}") for s in range(5))
    return OFAArchitecture(width, (kernel,) * 5, (expand,) * 5, chosen)


def random_architecture(width: float, draw: random.Random) -> OFAArchitecture:
    while True:
        blocks = tuple(
            draw.choice([None, *range(4 * s + 1, 4 * s + 5)]) if draw.random() < 0.7 else None
            for s in range(5)
        )
        if any(blocks):
            kernels = tuple(draw.choice([3, 5, 7]) for _ in range(5))
            expands = tuple(draw.choice([3, 4, 6]) for _ in range(5))
            return OFAArchitecture(width, kernels, expands, blocks)


def test_widths_vector():
    assert channel_widths(1.0) == (16, 16, 24, 40, 80, 112, 160, 960, 1280)
    assert channel_widths(1.2) == (24, 24, 32, 48, 96, 136, 192, 1152, 1536)


def test_squeeze_width_vector():
    mids = "72 96 120 144 160 240 288 320 336 408 448 480 544 576 640 672 768 816 960 1152"
    squeezed = "24 24 32 40 40 64 72 80 88 104 112 120 136 144 160 168 192 208 240 288"
    assert [squeeze_width(int(m)) for m in mids.split()] == [int(s) for s in squeezed.split()]


@pytest.mark.parametrize(("width", "count"), [(1.0, 7_678_880), (1.2, 10_715_752)])
def test_parameter_count_vector(width: float, count: int):
    assert parameter_count(width) == count
    shapes = shape_table(width)
    assert len(shapes) == 475
    matrices = sum(s[0] * s[1] for name, s in shapes.items() if name.endswith("_matrix"))
    assert matrices == 14_120


def test_fresh_kernels_are_centre_crops():
    kernel = torch.randn(6, 1, 7, 7)
    identity = torch.eye(25), torch.eye(9)
    assert torch.equal(transform_kernel(kernel, 7, *identity), kernel)
    assert torch.equal(transform_kernel(kernel, 5, *identity), kernel[:, :, 1:6, 1:6])
    assert torch.equal(transform_kernel(kernel, 3, *identity), kernel[:, :, 2:5, 2:5])


def test_kernel_transform_orientation():
    kernel = torch.arange(49.0).view(1, 1, 7, 7)
    matrix = torch.zeros(25, 25)
    matrix[0, 24] = 1
    transformed = transform_kernel(kernel, 5, matrix, torch.eye(9))
    assert transformed[0, 0, 0, 0] == kernel[0, 0, 5, 5]
    assert transformed.count_nonzero() == 1
    # Size 3 starts from the transformed size 5, whose centre is zero here.
    assert transform_kernel(kernel, 3, matrix, torch.eye(9)).count_nonzero() == 0


@pytest.mark.parametrize(
    ("width", "channels"), [(1.0, (24, 40, 80, 112, 160)), (1.2, (32, 48, 96, 136, 192))]
)
def test_maps_at_224(width: float, channels: tuple[int, ...]):
    arch = architecture(width, 3, 3, s0=2, s1=5, s2=11, s3=13, s4=18)
    extractor = OFAMobileNetV3(width, random_state(width, 0)).subnet(arch)
    maps = extractor(torch.zeros(2, 3, 224, 224))
    sides = (56, 28, 14, 14, 7)
    assert [tuple(m.shape) for m in maps] == [
        (2, c, s, s) for c, s in zip(channels, sides, strict=True)
    ]
    assert [info.block for info in extractor.feature_info] == [2, 5, 11, 13, 18]
    assert [224 // info.reduction for info in extractor.feature_info] == list(sides)


class TestSubnets(BackboneSuite):
    @pytest.fixture(
        params=[
            {"kernel": 5, "expand": 4, "s1": 7, "s3": 14},
            {"kernel": 5, "expand": 3, "s0": 2, "s1": 8, "s4": 18},
            {"kernel": 7, "expand": 6, "s0": 1},
        ],
        ids=str,
    )
    def extractor(
        self, request: pytest.FixtureRequest, supernet: OFAMobileNetV3
    ) -> FeatureExtractor:
        return supernet.subnet(architecture(supernet.width, **request.param))


def test_maps_are_described_before_a_subnet_is_built(supernet: OFAMobileNetV3):
    arch = architecture(supernet.width, 5, 4, s1=7, s3=14)
    extractor = supernet.subnet(arch)
    assert extractor.feature_info == supernet.feature_info(arch) == feature_info(arch)


@pytest.mark.parametrize(
    ("blocks", "depths", "numbers"),
    [
        ({"s0": 1}, (2,), (1,)),
        ({"s0": 2}, (2,), (1, 2)),
        ({"s1": 5}, (2, 2), (1, 2, 5)),
        ({"s0": 4, "s1": 7}, (4, 3), (1, 2, 3, 4, 5, 6, 7)),
        ({"s0": 1, "s4": 18}, (2,) * 5, (1, 2, 5, 6, 9, 10, 13, 14, 17, 18)),
    ],
)
def test_depth_follows_from_extraction_blocks(blocks, depths, numbers):
    arch = architecture(1.0, 3, 3, **blocks)
    assert arch.depths == depths
    assert arch.blocks == numbers
    extractor = OFAMobileNetV3(1.0, random_state(1.0, 0)).subnet(arch)
    built = [name for name, _ in extractor.named_modules() if re.fullmatch(r"blocks\.\d+", name)]
    assert built == [f"blocks.{n}" for n in (0, *numbers)]


@pytest.mark.parametrize(
    ("arch", "flops"),
    [
        (architecture(1.0, 3, 3, s0=2), 169_440),
        (architecture(1.0, 5, 3, s0=2), 2 * 625 * (48 + 72)),
        (architecture(1.0, 7, 6, s4=20), 0),
    ],
)
def test_kernel_transform_flops(arch: OFAArchitecture, flops: int):
    assert kernel_transform_flops(arch) == flops


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 1.1}, r"width: 1\.1 .*1\.2"),
        ({"kernel_sizes": (3, 3, 4, 3, 3)}, r"stage2\.kernel_size: 4 .*\(3, 5, 7\)"),
        ({"expand_ratios": (3, 3, 3, 3, 5)}, r"stage4\.expand_ratio: 5 .*\(3, 4, 6\)"),
        ({"extraction_blocks": (5, None, None, None, None)}, r"stage0\.extraction_block: 5 "),
        ({"kernel_sizes": (3, 3)}, r"kernel_sizes: \(3, 3\) .*5 values"),
    ],
)
def test_values_outside_the_space_are_refused(change: dict[str, object], message: str):
    values = {
        "width": 1.0,
        "kernel_sizes": (3,) * 5,
        "expand_ratios": (3,) * 5,
        "extraction_blocks": (1, None, None, None, None),
    }
    OFAArchitecture(**values)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        OFAArchitecture(**{**values, **change})  # type: ignore[arg-type]


def test_no_features_is_infeasible():
    with pytest.raises(Infeasible, match="extraction_block"):
        architecture()


def test_width_of_another_supernet_is_refused():
    with pytest.raises(ConfigError, match="width"):
        OFAMobileNetV3(1.0, random_state(1.0, 0)).subnet(architecture(1.2, s0=1))


def test_subnets_share_nothing(supernet: OFAMobileNetV3, images: Tensor):
    before = tensors_sha256(supernet.state)
    arch = architecture(supernet.width, 3, 4, s0=2, s1=6)
    first, second = supernet.subnet(arch), supernet.subnet(arch)
    expected = second(images)
    for tensor in first.state_dict().values():
        tensor.fill_(1)
    assert tensors_sha256(supernet.state) == before
    assert all(torch.equal(a, b) for a, b in zip(second(images), expected, strict=True))
    addresses = {t.untyped_storage().data_ptr() for t in supernet.state.values()}
    assert all(
        t.untyped_storage().data_ptr() not in addresses for t in second.state_dict().values()
    )


def test_building_draws_no_random_numbers():
    supernet = OFAMobileNetV3(1.0, random_state(1.0, 0))
    before = torch.get_rng_state()
    supernet.subnet(architecture(1.0, s4=17))
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_are_of_few_types(supernet: OFAMobileNetV3):
    extractor = supernet.subnet(architecture(supernet.width, s1=5))
    counted = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Hardswish, nn.Hardsigmoid)
    assert all(isinstance(m, counted) for m in extractor.modules() if not list(m.children()))


def test_folding_leaves_no_norm(supernet: OFAMobileNetV3):
    extractor = supernet.subnet(architecture(supernet.width, 5, 3, s0=2, s1=8, s4=18))
    for make in (fold_batch_norm, optimise_for_inference):
        folded = make(extractor)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


def test_random_state_follows_its_seed():
    first, again, other = (tensors_sha256(random_state(1.0, s)) for s in (3, 3, 4))
    assert first == again != other


def released_style(key: str) -> str:
    return key.replace(".conv.", ".mobile_inverted_conv.", 1) if "blocks." in key else key


def double(key: str) -> str:
    """Repeat every name that a wrapper may repeat."""
    key = re.sub(r"\bbn\.(?!bn)", "bn.bn.", key)
    key = key.replace("classifier.linear.", "classifier.linear.linear.")
    return re.sub(r"(?<!conv\.)\bconv\.weight", "conv.conv.weight", key)


@pytest.mark.parametrize("style", [released_style, double, lambda k: released_style(double(k))])
def test_key_styles(style):
    state = random_state(1.0, 0)
    renamed = {style(name): tensor for name, tensor in state.items()}
    assert len(renamed) == len(state)
    assert renamed.keys() != state.keys()
    assert tensors_sha256(OFAMobileNetV3(1.0, renamed).state) == tensors_sha256(state)


def test_foreign_tensors_are_refused():
    state = random_state(1.0, 0)
    matrix = "blocks.7.conv.depth_conv.conv.5to3_matrix"
    missing = {k: v for k, v in state.items() if k != matrix}
    with pytest.raises(WeightsError, match=re.escape(f"1 entries differ: missing key {matrix}")):
        OFAMobileNetV3(1.0, missing)
    with pytest.raises(WeightsError, match=r"unknown key extra\.weight"):
        OFAMobileNetV3(1.0, {**state, "extra.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"5to3_matrix is \(8, 8\), expected \(9, 9\)"):
        OFAMobileNetV3(1.0, {**state, matrix: torch.eye(8)})
    with pytest.raises(WeightsError, match="twice"):
        OFAMobileNetV3(1.0, {**state, "first_conv.bn.bn.bias": torch.zeros(16)})
    with pytest.raises(WeightsError, match=r"w1\.2: .*first_conv"):
        OFAMobileNetV3(1.2, state)


def test_counters_may_be_missing():
    state = {k: v for k, v in random_state(1.0, 0).items() if "num_batches" not in k}
    OFAMobileNetV3(1.0, state).subnet(architecture(1.0, s0=1))


@pytest.fixture(scope="module")
def reference(supernet: OFAMobileNetV3) -> nn.Module:
    networks = pytest.importorskip("ofa.imagenet_classification.elastic_nn.networks")
    net = networks.OFAMobileNetV3(
        width_mult=supernet.width,
        ks_list=[3, 5, 7],
        expand_ratio_list=[3, 4, 6],
        depth_list=[2, 3, 4],
    )
    by_plain_key = {plain_key(key): key for key in net.state_dict()}
    assert by_plain_key.keys() == supernet.state.keys()
    nn.Module.load_state_dict(net, {by_plain_key[k]: v for k, v in supernet.state.items()})
    return net.eval()


@torch.no_grad()
def compare(supernet: OFAMobileNetV3, reference: nn.Module, images: Tensor, seed: int, n: int):
    draw = random.Random(seed)
    outputs: dict[int, Tensor] = {}
    handles = [
        block.register_forward_hook(lambda m, a, out, i=i: outputs.__setitem__(i, out))
        for i, block in enumerate(reference.blocks)
    ]
    for _ in range(n):
        arch = random_architecture(supernet.width, draw)
        kernels = [k for k in arch.kernel_sizes for _ in range(4)]
        expands = [e for e in arch.expand_ratios for _ in range(4)]
        depths = [*arch.depths, 2, 2, 2, 2][:5]
        reference.set_active_subnet(kernels, expands, depths)
        outputs.clear()
        reference(images)
        maps = supernet.subnet(arch)(images)
        assert len(maps) == len(arch.extracted)
        for block, found in zip(arch.extracted, maps, strict=True):
            wanted = outputs[block]
            assert found.shape == wanted.shape
            assert wanted.std() > 0
            assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max(), (arch, block)
    for handle in handles:
        handle.remove()


def test_parity_with_the_reference(supernet, reference, images):
    compare(supernet, reference, images, seed=0, n=50)


def test_state_loads_from_the_reference(supernet: OFAMobileNetV3, reference: nn.Module):
    copied = OFAMobileNetV3(supernet.width, copy.deepcopy(reference.state_dict()))
    assert tensors_sha256(copied.state) == tensors_sha256(supernet.state)
