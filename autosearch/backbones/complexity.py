"""What a network and its memory bank cost: multiply-adds, FLOPs, parameters, measured latency."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

_PER_OUTPUT: dict[type[nn.Module], int] = {
    nn.modules.batchnorm._BatchNorm: 2,
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU, nn.GELU), 1),
    **dict.fromkeys((nn.Hardswish, nn.Hardsigmoid), 1),
    **dict.fromkeys((nn.Identity, nn.Flatten, nn.Sequential, nn.modules.dropout._DropoutNd), 0),
}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLING = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)


@dataclass(frozen=True)
class Complexity:
    """Cost of one forward pass. Lower is better for all of it.

    Attributes:
        macs: Multiply-adds of convolutions, linear layers, and products of tensors.
        flops: Floating-point operations in the convention of `profile`.
        parameters: Learnt values, whether or not the pass uses them.
        uncounted: Names of layer types that ran and have no rule, so that ``flops`` lacks them.
    """

    macs: int
    flops: int
    parameters: int
    uncounted: tuple[str, ...] = ()


def profile(
    module: nn.Module,
    input_shape: tuple[int, ...] = (1, 3, 224, 224),
    free: tuple[type[nn.Module], ...] = (),
    products: bool = True,
) -> Complexity:
    """Count one forward pass, as the AutoPatch paper does with DeepSpeed's profiler.

    Convolutions and linear layers cost 2 FLOPs per multiply-add, and 1 per output element for a
    bias; batch norms 2 per element; activations 1 per output element; pooling layers, adaptive
    ones as well, 1 per *input* element. Products of matrices outside of layers cost 2 per
    multiply-add as well: an attention of N tokens of C numbers is 4 N² C, half of it for
    queries with keys, half for weights with values, whichever kernel computes it. Of what else are
    plain tensor operations nothing is seen: additions, softmax and means cost nothing, so
    squeeze-and-excitation pools for nothing where it takes ``x.mean((2, 3))``, and for its input
    where it calls a pooling layer.

    DeepSpeed's figure depends on how a hard activation is written: OFA composes it of a ReLU6,
    which counts, while the native kernel that torchvision calls goes unseen. Here one rule holds,
    1 per element. Pass ``free=(nn.Hardswish, nn.Hardsigmoid)`` for DeepSpeed's figure of a network
    with native kernels, such as the paper's 0.31 GFLOPs for torchvision's MobileNetV3.

    Args:
        module: Runs once on zeros, on its own device, in evaluation mode; left as it was.
        input_shape: Of the zeros.
        free: Types to count as 0, subclasses included.
        products: Whether to look for products outside of layers. To load what does that takes
            longer than to load torch, so who knows that there are none may spare it.
    """
    counter = _Counter(free)
    modes = [(child, child.training) for child in module.modules()]
    handles = [child.register_forward_hook(counter) for child in module.modules()]
    example = next(module.parameters(), torch.empty(0))
    seen = _product_counter() if products else None
    try:
        module.eval()
        with torch.no_grad(), seen or nullcontext():
            module(torch.zeros(input_shape, dtype=example.dtype, device=example.device))
    finally:
        for handle in handles:
            handle.remove()
        for child, training in modes:
            child.training = training
    parameters = sum(parameter.numel() for parameter in module.parameters())
    others = 0 if seen is None else _products(seen) - counter.linear
    return Complexity(
        counter.macs + others,
        counter.flops + 2 * others,
        parameters,
        tuple(sorted(counter.uncounted)),
    )


def nearest_neighbour_flops(queries: int, bank_size: int, dimension: int) -> int:
    """FLOPs of exact search: 2 per dimension of each pair of a query and a patch of the bank."""
    return 2 * queries * bank_size * dimension


def measure_latency(
    call: Callable[[], object],
    *,
    warmup: int = 3,
    repeats: int = 10,
    device: str | torch.device = "cpu",
) -> float:
    """Median wall-clock time of a call in milliseconds; lower is better.

    Args:
        call: What to measure.
        warmup: Calls before the first measured one.
        repeats: Measured calls, at least 1.
        device: Where the call computes; a CUDA device is waited for before and after each call.
    """

    def timed() -> float:
        _synchronise(device)
        start = time.perf_counter()
        call()
        _synchronise(device)
        return time.perf_counter() - start

    for _ in range(warmup):
        timed()
    return 1e3 * statistics.median(timed() for _ in range(repeats))


class _Counter:
    """A forward hook that adds up what the layers it sees cost.

    Attributes:
        linear: Multiply-adds of linear layers alone, free ones as well.
    """

    def __init__(self, free: tuple[type[nn.Module], ...]) -> None:
        self.free, self.macs, self.flops, self.linear = free, 0, 0, 0
        self.uncounted: set[str] = set()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Linear):
            self.linear += _layer_macs(module, output) or 0
        if isinstance(module, self.free):
            return
        macs, others = _layer_macs(module, output), _layer_others(module, args, output)
        if macs is None and others is None:
            # A module made of others costs what they cost, unless it has weights of its own.
            made_of_others = next(module.children(), None) is not None
            if not made_of_others or next(module.parameters(recurse=False), None) is not None:
                self.uncounted.add(type(module).__name__)
            return
        self.macs += macs or 0
        self.flops += 2 * (macs or 0) + (others or 0)


def _product_counter() -> FlopCounterMode:
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    # The one kernel of attention that torch's counter does not know.
    on_cpus = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    return FlopCounterMode(display=False, custom_mapping=on_cpus)


def _products(counter: FlopCounterMode) -> int:
    """Multiply-adds of all that torch saw but convolutions: layers, and products beside them."""
    seen = counter.get_flop_counts().get("Global", {})
    return sum(flops for kind, flops in seen.items() if "conv" not in str(kind)) // 2


def _layer_macs(module: nn.Module, output: Any) -> int | None:
    """Multiply-adds of a convolution or linear layer; None for any other module."""
    if isinstance(module, nn.Linear):
        return int(output.numel()) * module.in_features
    if isinstance(module, _CONVOLUTIONS):
        taps = module.in_channels // module.groups * math.prod(module.kernel_size)
        return int(output.numel()) * taps
    return None


def _layer_others(module: nn.Module, args: tuple[Any, ...], output: Any) -> int | None:
    """FLOPs beside multiply-adds; None if there is no rule."""
    if isinstance(module, _POOLING):
        return int(args[0].numel())
    if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
        return int(output.numel()) if module.bias is not None else 0
    for kind, per_output in _PER_OUTPUT.items():
        if isinstance(module, kind) and isinstance(output, Tensor):
            return per_output * output.numel()
    return None


def _synchronise(device: str | torch.device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
