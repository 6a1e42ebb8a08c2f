"""What an OFA-MobileNetV3 supernet is made of: architectures, shapes and names of its tensors.

Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR
2020, with the search space of the AutoPatch paper. Nothing here needs weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autosearch.backbones.features import FeatureInfo
from autosearch.errors import ConfigError, Infeasible, WeightsError

WIDTHS = (1.0, 1.2)
KERNEL_SIZES = (3, 5, 7)
EXPAND_RATIOS = (3, 4, 6)
STAGES = 5
STAGE_BLOCKS = tuple(tuple(range(4 * s + 1, 4 * s + 5)) for s in range(STAGES))
"""Block numbers of each stage; block 0 stands before stage 0 and belongs to every subnet."""

MODEL_NAMES = {f"ofa_mbv3_d234_e346_k357_w{width}": width for width in WIDTHS}
"""Name of each released checkpoint and its width multiplier."""

_STRIDES = (2, 2, 2, 1, 2)
HARD_SWISH = (False, False, True, True, True)
SQUEEZE_EXCITE = (False, True, False, True, True)
_BASE_WIDTHS = (16, 16, 24, 40, 80, 112, 160, 960, 1280)
NORM_VECTORS = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"


def check_width(width: float) -> None:
    """Refuse a width multiplier of which there is no supernet.

    Raises:
        ConfigError: Names those there are.
    """
    if width not in WIDTHS:
        raise ConfigError("width", width, f"one of {WIDTHS}")


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to a multiple of ``divisor``, never below it nor below 90 % of ``value``."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def channel_widths(width: float) -> tuple[int, ...]:
    """Channels of stem, block 0, stages 0 to 4, final expansion and feature mix, in this order."""
    return tuple(make_divisible(base * width) for base in _BASE_WIDTHS)


@dataclass(frozen=True)
class OFAArchitecture:
    """One subnet: kernel and expansion hold for all blocks of a stage.

    Attributes:
        width: Width multiplier, one of `WIDTHS`; each has its own supernet.
        kernel_sizes: Depthwise kernel per stage, from `KERNEL_SIZES`.
        expand_ratios: Expansion per stage, from `EXPAND_RATIOS`.
        extraction_blocks: Per stage, the block whose output is extracted, or None.

    Raises:
        ConfigError: If a value is not among the choices.
        Infeasible: If no stage has an extraction block.
    """

    width: float
    kernel_sizes: tuple[int, ...]
    expand_ratios: tuple[int, ...]
    extraction_blocks: tuple[int | None, ...]

    def __post_init__(self) -> None:
        check_width(self.width)
        for name in ("kernel_sizes", "expand_ratios", "extraction_blocks"):
            if len(getattr(self, name)) != STAGES:
                raise ConfigError(name, getattr(self, name), f"{STAGES} values, one per stage")
        for s in range(STAGES):
            choices: dict[str, tuple[tuple[object, ...], object]] = {
                "kernel_size": (KERNEL_SIZES, self.kernel_sizes[s]),
                "expand_ratio": (EXPAND_RATIOS, self.expand_ratios[s]),
                "extraction_block": ((None, *STAGE_BLOCKS[s]), self.extraction_blocks[s]),
            }
            for name, (allowed, value) in choices.items():
                if value not in allowed:
                    raise ConfigError(f"stage{s}.{name}", value, f"one of {allowed}")
        if not self.extracted:
            raise Infeasible("extraction_block is null in all stages: there are no features")

    @property
    def extracted(self) -> tuple[int, ...]:
        """Extraction blocks in rising order, without the Nones."""
        return tuple(block for block in self.extraction_blocks if block is not None)

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks per stage up to the last extracted stage: the block's position, at least 2."""
        last_stage = (self.extracted[-1] - 1) // 4
        blocks = self.extraction_blocks[: last_stage + 1]
        return tuple(2 if block is None else max(2, (block - 1) % 4 + 1) for block in blocks)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Numbers of the elastic blocks that run: none lies after the last extraction block."""
        active = (STAGE_BLOCKS[s][i] for s, depth in enumerate(self.depths) for i in range(depth))
        return tuple(block for block in active if block <= self.extracted[-1])


@dataclass(frozen=True)
class Block:
    """What is fixed about an elastic block: everything but kernel size and expansion."""

    number: int
    stage: int
    inputs: int
    outputs: int
    stride: int

    @property
    def shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.outputs

    def mid(self, expand_ratio: int) -> int:
        """Channels of the depthwise convolution."""
        return make_divisible(round(self.inputs * expand_ratio))


def elastic_block(width: float, number: int) -> Block:
    """Look up block ``number`` (1 to 20) of the supernet of a width."""
    stage, position = divmod(number - 1, 4)
    widths = channel_widths(width)
    outputs = widths[2 + stage]
    inputs = widths[1 + stage] if position == 0 else outputs
    return Block(number, stage, inputs, outputs, _STRIDES[stage] if position == 0 else 1)


def squeeze_width(mid: int) -> int:
    """Channels between the two convolutions of squeeze-and-excitation on ``mid`` channels."""
    return make_divisible(mid // 4)


def _norm_shapes(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    vectors: dict[str, tuple[int, ...]] = {f"{prefix}.{v}": (channels,) for v in NORM_VECTORS}
    return {**vectors, f"{prefix}.{COUNTER}": ()}


def _block_shapes(block: Block) -> dict[str, tuple[int, ...]]:
    prefix, mid = f"blocks.{block.number}.conv", block.mid(max(EXPAND_RATIOS))
    depth = f"{prefix}.depth_conv"
    shapes = {
        f"{prefix}.inverted_bottleneck.conv.weight": (mid, block.inputs, 1, 1),
        **_norm_shapes(f"{prefix}.inverted_bottleneck.bn", mid),
        f"{depth}.conv.weight": (mid, 1, 7, 7),
        f"{depth}.conv.7to5_matrix": (25, 25),
        f"{depth}.conv.5to3_matrix": (9, 9),
        **_norm_shapes(f"{depth}.bn", mid),
        f"{prefix}.point_linear.conv.weight": (block.outputs, mid, 1, 1),
        **_norm_shapes(f"{prefix}.point_linear.bn", block.outputs),
    }
    if SQUEEZE_EXCITE[block.stage]:
        squeezed = squeeze_width(mid)
        shapes[f"{depth}.se.fc.reduce.weight"] = (squeezed, mid, 1, 1)
        shapes[f"{depth}.se.fc.reduce.bias"] = (squeezed,)
        shapes[f"{depth}.se.fc.expand.weight"] = (mid, squeezed, 1, 1)
        shapes[f"{depth}.se.fc.expand.bias"] = (mid,)
    return shapes


def shape_table(width: float) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the supernet, names in the form of `plain_key`."""
    stem, first, *_, last, expanded, mixed = channel_widths(width)
    fixed = "blocks.0.conv"
    shapes: dict[str, tuple[int, ...]] = {
        "first_conv.conv.weight": (stem, 3, 3, 3),
        **_norm_shapes("first_conv.bn", stem),
        f"{fixed}.depth_conv.conv.weight": (stem, 1, 3, 3),
        **_norm_shapes(f"{fixed}.depth_conv.bn", stem),
        f"{fixed}.point_linear.conv.weight": (first, stem, 1, 1),
        **_norm_shapes(f"{fixed}.point_linear.bn", first),
    }
    for blocks in STAGE_BLOCKS:
        for number in blocks:
            shapes.update(_block_shapes(elastic_block(width, number)))
    return {
        **shapes,
        "final_expand_layer.conv.weight": (expanded, last, 1, 1),
        **_norm_shapes("final_expand_layer.bn", expanded),
        "feature_mix_layer.conv.weight": (mixed, expanded, 1, 1),
        "classifier.linear.weight": (1000, mixed),
        "classifier.linear.bias": (1000,),
    }


def random_state(width: float, seed: int) -> dict[str, Tensor]:
    """Untrained tensors of a supernet: He-initialised weights, neutral norms and transforms."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, shape in shape_table(width).items():
        if name.endswith("_matrix"):
            state[name] = torch.eye(shape[0])
        elif name.endswith(COUNTER):
            state[name] = torch.zeros((), dtype=torch.int64)
        elif len(shape) > 1:
            fan_out = shape[0] * shape[2] * shape[3] if len(shape) == 4 else shape[0]
            if len(shape) == 4 and shape[1] == 1:
                fan_out = shape[2] * shape[3]
            state[name] = torch.randn(shape, generator=generator) * (2 / fan_out) ** 0.5
        else:
            neutral = name.endswith((".bn.weight", ".running_var"))
            state[name] = torch.ones(shape) if neutral else torch.zeros(shape)
    return state


def plain_key(key: str) -> str:
    """Bring a checkpoint's key into one form, whichever release it stems from.

    Early releases say ``mobile_inverted_conv`` where later ones say ``conv``, and wrappers repeat
    the name of what they wrap (``bn.bn``, ``conv.conv``, ``linear.linear``). Here: ``conv``, once.
    """
    parts = key.replace(".mobile_inverted_conv.", ".conv.").split(".")
    return ".".join(p for i, p in enumerate(parts) if i == 0 or p != parts[i - 1])


def plain_state(width: float, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check that a checkpoint is this supernet's, entry by entry, and return it under plain keys.

    Args:
        width: Width multiplier of the supernet.
        state: Tensors under any of the released key styles.

    Returns:
        Tensors named as in `shape_table`; weights and statistics as detached float32.

    Raises:
        ConfigError: If there is no supernet of this width.
        WeightsError: If a key is missing, unknown or doubled, or a shape or a kind of number
            differs; names the first few. Counters of batches may be missing: nothing reads them.
    """
    check_width(width)
    shapes = shape_table(width)
    plain: dict[str, Tensor] = {}
    problems: list[str] = []
    for key, tensor in state.items():
        name = plain_key(key)
        if name not in shapes:
            problems.append(f"unknown key {key}")
        elif name in plain:
            problems.append(f"{key} stands there twice, in two spellings")
        elif tuple(tensor.shape) != shapes[name]:
            problems.append(f"{key} is {tuple(tensor.shape)}, expected {shapes[name]}")
        elif not (tensor.is_floating_point() or name.endswith(COUNTER)):
            problems.append(f"{key} holds {tensor.dtype}, expected floating-point numbers")
        plain[name] = tensor.detach() if name.endswith(COUNTER) else tensor.detach().float()
    missing = (n for n in shapes if n not in plain and not n.endswith(COUNTER))
    problems.extend(f"missing key {name}" for name in missing)
    if problems:
        shown = "; ".join(problems[:3]) + ("; …" if len(problems) > 3 else "")
        raise WeightsError(
            f"not the weights of OFA-MobileNetV3 w{width}: {len(problems)} entries differ: {shown}"
        )
    return plain


def feature_info(arch: OFAArchitecture) -> tuple[FeatureInfo, ...]:
    """Describe the maps that the subnet of ``arch`` extracts; needs no weights."""
    reductions = (4, 8, 16, 16, 32)
    blocks = (elastic_block(arch.width, number) for number in arch.extracted)
    return tuple(
        FeatureInfo(b.number, b.outputs, reductions[b.stage], f"blocks.{b.number}") for b in blocks
    )


def parameter_count(width: float) -> int:
    """Number of learnt values of the whole supernet, kernel transforms included."""
    statistics = (".running_mean", ".running_var", COUNTER)
    return sum(
        torch.Size(shape).numel()
        for name, shape in shape_table(width).items()
        if not name.endswith(statistics)
    )


def kernel_transform_flops(arch: OFAArchitecture) -> int:
    """FLOPs of transforming all depthwise kernels once, at 2 per multiply-add.

    A static subnet does not spend them: its kernels are transformed when it is built. AutoPatch's
    reference counts them as linear layers of every forward pass.
    """
    taps = {7: 0, 5: 25 * 25, 3: 25 * 25 + 9 * 9}
    total = 0
    for number in arch.blocks:
        block = elastic_block(arch.width, number)
        mid = block.mid(arch.expand_ratios[block.stage])
        total += 2 * mid * taps[arch.kernel_sizes[block.stage]]
    return total
