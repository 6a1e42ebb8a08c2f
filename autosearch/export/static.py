"""A detector as an ONNX graph of fixed shapes that TensorRT reads, its network in half precision.

Networks compute in float16; what compares features does not: squared distances pass what 16 bits
hold. A network that half precision changes too much stays in float32, and the model says so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor
from autosearch.contracts import Detector, shared_tensor
from autosearch.data import ImageSet, numbered
from autosearch.errors import ConfigError
from autosearch.export.folder import STATIC
from autosearch.export.frozen import TOLERANCE, Maps, parts_of
from autosearch.graphs import (
    STATIC_OPSET,
    ModelError,
    StaticGraph,
    largest_difference,
    onnx_run,
    round_to_half,
    static_onnx,
)
from autosearch.metrics import image_scores

HALF_TOLERANCE = 1e-2
"""Largest difference to torch in float32 that a network in half precision may make."""

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_METHODS = ("forward", "with_class_token")


def check_batch(batch: int | None, formats: Sequence[str]) -> None:
    """Refuse a batch size that is none, or that no format asks for.

    Raises:
        ConfigError: Says which.
    """
    if batch is None:
        return
    if "onnx-static" not in formats:
        raise ConfigError("--batch", batch, "none, or --format onnx-static beside it")
    if batch < 1:
        raise ConfigError("--batch", batch, "a whole number from 1")


def freeze_static(
    detector: Detector, val: ImageSet, batch: int, half: bool, opset: int
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Write the graphs, and compare them in onnxruntime with torch in float32.

    Args:
        detector: Fitted.
        val: Images to compare on, anomalous ones first.
        batch: Images of a pass, or tiles.
        half: Store the large tensors of the rest in half precision as well.
        opset: At most `STATIC_OPSET` is used.

    Returns:
        The files, and what ``model.json`` says of them.

    Raises:
        ModelError: TensorRT could not read the graph, or it differs too much from torch.
    """
    parts, opset = parts_of(detector, val), min(opset, STATIC_OPSET)
    files: dict[str, bytes] = {}
    operators: dict[str, int] = {}
    found: list[tuple[bool, float]] = []
    for number, (part, images) in enumerate(parts):
        graph, short, difference = _frozen(part, images, batch, half, opset)
        files[numbered(STATIC, number, len(parts))] = graph.content
        found.append((short, difference))
        operators |= {name: max(operators.get(name, 0), n) for name, n in graph.operators.items()}
    return files, {
        "batch": batch,
        "opset": opset,
        # Of several graphs, what all of them are.
        "network": "float16" if all(short for short, _ in found) else "float32",
        "search": "float32",
        "difference": max(difference for _, difference in found),
        "tolerance": HALF_TOLERANCE if any(short for short, _ in found) else TOLERANCE,
        "operators": dict(sorted(operators.items())),
    }


def in_half(module: nn.Module) -> nn.Module:
    """A copy whose networks compute in half precision, and nothing else of it does.

    Networks are feature extractors as a whole; elsewhere each convolution and each linear layer.
    What goes into them is rounded, and what comes out of them is float32 again.
    """
    short, done = copy.deepcopy(module), set[str]()
    for name, part in short.named_modules():
        inside = any(name.startswith(f"{other}.") for other in done)
        if not inside and isinstance(part, (FeatureExtractor, *_LAYERS)):
            done.add(name)
            part.half()
            for method in _METHODS:
                if hasattr(part, method):
                    setattr(part, method, _rounding(getattr(part, method)))
    return short


def _rounding(call: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    def rounded(images: Tensor) -> Any:
        return _float(call(images.half()))

    return rounded


def _float(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.float()
    return type(found)(_float(one) for one in found)


def _frozen(
    detector: Detector, images: Maps, batch: int, half: bool, opset: int
) -> tuple[StaticGraph, bool, float]:
    """A graph, whether its network is in half precision, and its difference to torch."""
    exact, share = copy.deepcopy(detector.module()).cpu().eval(), detector.top_share
    reference = detector.anomaly_maps(shared_tensor(images)).numpy()
    if half:
        round_to_half(exact)
        with torch.inference_mode():
            reference = exact(torch.from_numpy(images)).numpy()
    shape = (batch, *images.shape[2:])
    for module, tolerance in ((in_half(exact), HALF_TOLERANCE), (exact, TOLERANCE)):
        graph = static_onnx(module, shape, half, opset, share)
        difference = _difference(graph.content, images, batch, reference, share)
        if difference <= tolerance:
            return graph, module is not exact, difference
    raise ModelError(
        f"onnx-static: its maps differ from torch's by {difference:.2g} of the highest score; at "
        f"most {TOLERANCE:g} is allowed; nothing was exported"
    )


def _difference(
    graph: bytes, images: Maps, batch: int, reference: Maps, share: float | None
) -> float:
    """The largest, of maps and scores; infinite where some value is not finite."""
    run = onnx_run(graph, threads=1)
    # The last batch begins anew with the first images: it must be whole.
    starts = range(0, len(images), batch)
    answers = [run(images[np.arange(start, start + batch) % len(images)]) for start in starts]
    maps, scores = (np.concatenate(part)[: len(images)] for part in zip(*answers, strict=True))
    if not (np.isfinite(maps).all() and np.isfinite(scores).all()):
        return float("inf")
    own = image_scores(reference, share).astype(np.float32)
    return max(largest_difference(reference, maps), largest_difference(own, scores))
