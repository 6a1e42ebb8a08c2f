"""An OpenVINO graph in 8-bit integers: NNCF's post-training quantisation, calibrated on images."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autosearch.graphs.runtimes import Images, needed, openvino_core

INT8_PACKAGES = ("openvino", "nncf")
"""What quantises a graph, beside what makes it."""

_LEAST = {"ReduceMin", "TopK"}
_BETWEEN = {
    *("Subtract", "Multiply", "Concat", "Slice", "StridedSlice", "Reshape", "Transpose"),
    *("Broadcast", "Interpolate", "AvgPool"),
}
"""What features go through on their way from the network to a search."""
_BOUNDARY = {
    *("MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData", "Softmax", "MVN"),
    *("Constant", "Parameter", "Result"),
}
"""What belongs to a network, or to nothing."""
_TRANSFORMER = {"Softmax", "MVN", "ScaledDotProductAttention"}


def openvino_files(graph: bytes | Path) -> tuple[bytes, bytes]:
    """An ONNX graph, in memory or in a file, as OpenVINO's network (XML) and tensors."""
    return _saved(openvino_core().read_model(graph))


def in_int8(network: bytes, data: bytes, images: Sequence[Images]) -> tuple[bytes, bytes]:
    """Quantise weights and activations to 8 bits, but for the search; see `search_nodes`.

    Args:
        network: OpenVINO's XML, of a float32 graph.
        data: The tensors that go with it.
        images: What activations are measured on, each ``(1, 3, H, W)``; all are used.

    Returns:
        Network and tensors.

    Raises:
        ConfigError: OpenVINO or NNCF is not installed.
    """
    nncf, model = needed("nncf"), openvino_core().read_model(network, data)
    kinds = {node.get_type_name() for node in model.get_ops()}
    left = search_nodes(model)
    with _quiet():
        quantised = nncf.quantize(
            model,
            nncf.Dataset(list(images)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER if kinds & _TRANSFORMER else None,
            ignored_scope=nncf.IgnoredScope(names=left) if left else None,
        )
    return _saved(quantised)


def has_search(network: bytes, data: bytes) -> bool:
    """Whether there is a search for nearest neighbours; see `search_nodes`."""
    return bool(search_nodes(openvino_core().read_model(network, data)))


def search_nodes(model: Any) -> list[str]:
    """Names of the nodes that look for nearest neighbours, and of all that follow them.

    A search is a product whose least values are asked for with nothing of a network in between.
    Part of it is what its operands go through on the way from the network, and what else is made
    of that: a squared distance is a small difference of large numbers, so that rounding any of
    them alone leaves nothing of it. Pooling over patches is among it, because OpenVINO on a CPU
    was seen to give wrong means of padded windows in 8 bits (2026.4).

    Args:
        model: OpenVINO's, with a memory bank; one that compares otherwise has none of these.
    """
    found: dict[str, Any] = {}
    for node in model.get_ops():
        if node.get_type_name() == "MatMul" and _asks_for_least(node):
            found[node.get_friendly_name()] = node
            operands: dict[str, Any] = {}
            _walk(node, _operands, operands)
            found |= operands
            for start in (node, *operands.values()):
                _walk(start, _users, found)
    return list(found)


def _asks_for_least(product: Any) -> bool:
    reached: dict[str, Any] = {}
    _walk(product, _users, reached)
    return any(node.get_type_name() in _LEAST for node in reached.values())


def _walk(node: Any, following: Callable[[Any], list[Any]], found: dict[str, Any]) -> None:
    """Add what can be reached from a node until something of a network comes."""
    waiting = following(node)
    while waiting:
        node = waiting.pop()
        name = node.get_friendly_name()
        if name not in found and node.get_type_name() not in _BOUNDARY:
            found[name] = node
            waiting.extend(following(node))


def _users(node: Any) -> list[Any]:
    return [port.get_node() for output in node.outputs() for port in output.get_target_inputs()]


def _operands(node: Any) -> list[Any]:
    """What a node is computed from, as far as it lies between the network and a search."""
    sources = [port.get_source_output().get_node() for port in node.inputs()]
    return [one for one in sources if one.get_type_name() in _BETWEEN]


def _saved(model: Any) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "model.xml")
        # Its own compression would round what follows from other tensors, such as their norms.
        needed("openvino").save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF from telling of every step, and from drawing bars into others' output."""
    logger = logging.getLogger("nncf")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
