"""ONNX graphs that one file cannot hold: large tensors lie in another file beside them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from autosearch.errors import ConfigError
from autosearch.graphs.onnx_graph import OPSET, onnx_model
from autosearch.graphs.runtimes import needed

_FROM = 1024
"""Bytes of a tensor from which on it is moved out of the graph."""
_ALIGNED = 4096
"""Where a tensor begins is a multiple of this, so that runtimes can map the file into memory."""


def onnx_beside(
    module: nn.Module,
    image_size: tuple[int, int],
    name: str,
    half: bool = False,
    opset: int = OPSET,
    top_share: float | None = None,
) -> tuple[bytes, bytes]:
    """The ONNX file of a module, and the file of tensors that belongs beside it.

    Args:
        module: See `onnx_bytes`, as of all arguments but one.
        image_size: ``(H, W)``.
        name: Of the file of tensors, by which the graph finds it in its own folder.
        half: Store tensors that `round_to_half` has rounded in 16 bits.
        opset: `OPSET` alone, since ONNX converts no graph of such a size to another one.
        top_share: Of the scores.

    Raises:
        ConfigError: It is another opset, or packages for export are missing or too old.
    """
    if opset != OPSET:
        raise ConfigError("--opset", opset, f"{OPSET} for a graph that passes 2 GB")
    onnx = needed("onnx")
    model = onnx_model(module, image_size, half, opset, top_share)
    data = _moved_out(onnx, model, name)
    graph: bytes = model.SerializeToString()
    with tempfile.TemporaryDirectory() as place:
        path = write_graph(Path(place), graph, name, data)
        onnx.checker.check_model(path, full_check=True)
    return graph, data


def write_graph(folder: Path, graph: bytes, name: str, data: bytes) -> Path:
    """Write a graph and the file beside it, for those who read no graph from memory."""
    (folder / name).write_bytes(data)
    path = folder / "graph.onnx"
    path.write_bytes(graph)
    return path


def _moved_out(onnx: Any, model: Any, name: str) -> bytes:
    """Take the values of large tensors out of a graph, which then says where they are."""
    data = bytearray()
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < _FROM:
            continue
        data += bytes(-len(data) % _ALIGNED)
        place = {"location": name, "offset": len(data), "length": len(tensor.raw_data)}
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
    return bytes(data)
