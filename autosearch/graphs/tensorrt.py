"""A graph for TensorRT: shapes that are fixed, an opset that it reads, no operator that it lacks.

TensorRT itself is not asked; what its ONNX parser lacks is as its table of operators says
(https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md, that of 8.5), but for
LayerNormalization and IsInf, which are taken as read from 8.6 on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import nn

from autosearch.graphs.onnx_graph import MAX_BYTES, TooLarge, onnx_model
from autosearch.graphs.runtimes import ModelError, needed

STATIC_OPSET = 17
"""The highest that TensorRT 8.6 reads."""
MOST_OF_TOPK = 3840
"""How many values TensorRT's TopK can give."""

LACKING = frozenset(
    [
        "Bernoulli", "BitShift", "BlackmanWindow", "Compress", "ConcatFromSequence",
        "ConvInteger", "DFT", "Det", "DynamicQuantizeLinear", "HammingWindow", "HannWindow",
        "Hardmax", "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix", "Multinomial",
        "NegativeLogLikelihoodLoss", "Optional", "OptionalGetElement", "OptionalHasElement",
        "QLinearConv", "QLinearMatMul", "STFT", "SequenceAt", "SequenceConstruct",
        "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap",
        "SoftmaxCrossEntropyLoss", "SplitToSequence", "StringNormalizer", "TfIdfVectorizer",
        "Unique",
    ]
)  # fmt: skip
"""Operators of ONNX that the table says are not read."""


@dataclass(frozen=True)
class StaticGraph:
    """An ONNX file for one batch size.

    Attributes:
        content: The file.
        operators: How often each occurs in it, by name.
    """

    content: bytes
    operators: dict[str, int]


def static_onnx(
    module: nn.Module,
    shape: tuple[int, int, int],
    half: bool = False,
    opset: int = STATIC_OPSET,
    top_share: float | None = None,
) -> StaticGraph:
    """The ONNX file of a module for batches of one size.

    Args:
        module: As of `onnx_bytes`; its parts may compute in half precision.
        shape: ``(N, H, W)``: images of a batch, their height and width.
        half: As of `onnx_bytes`.
        opset: Likewise; 17 or less for TensorRT 8.6.
        top_share: Likewise.

    Raises:
        ConfigError: Packages for export are missing or too old.
        TooLarge: The file would pass 2 GB.
        ModelError: TensorRT could not read it.
    """
    onnx = needed("onnx")
    batch, height, width = shape
    model = onnx_model(module, (height, width), half, opset, top_share, batch=batch)
    held = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if held > MAX_BYTES:
        allowed = f"at most {MAX_BYTES / 1e9:g} GB for onnx-static"
        raise TooLarge("graph", f"{held / 1e9:.1f} GB", allowed)
    operators = Counter(node.op_type for node in model.graph.node)
    if lacking := LACKING & operators.keys():
        raise ModelError(
            f"onnx-static: TensorRT does not read {', '.join(sorted(lacking))}, which this "
            "detector's graph needs; nothing was exported"
        )
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "TopK" and node.input[1] in known:
            wanted = int(onnx.numpy_helper.to_array(known[node.input[1]]).max())
            if wanted > MOST_OF_TOPK:
                raise ModelError(
                    f"onnx-static: TensorRT gives at most {MOST_OF_TOPK} of the highest values, "
                    f"and an image's score is of {wanted}; nothing was exported"
                )
    content: bytes = model.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    return StaticGraph(content, dict(sorted(operators.items())))
