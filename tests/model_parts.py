"""A model folder like that of an export, whose graph answers with the brightness of a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import typer
from onnx import TensorProto, helper
from PIL import Image

from autosearch.cli import predict as predict_cli
from autosearch.export.folder import seal

SIDE = 16
LIMIT = 0.5
"""The model calls a pixel anomalous where the mean of its channels reaches this."""


def graph(side: int = SIDE, outputs: int = 2, scale: float = 1.0, secret: bool = False) -> bytes:
    """A graph with the interface of an exported model, whose map is the mean of the channels."""
    nodes = [
        helper.make_node("Mul", ["images", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "one"], ["anomaly_map"], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map", "sides"], ["score"], keepdims=0),
    ]
    factor = helper.make_tensor("scale", TensorProto.FLOAT, [1], [scale])
    if secret:
        factor.ClearField("float_data")
        factor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "secret", "offset": "0", "length": "4"}.items():
            entry = factor.external_data.add()
            entry.key, entry.value = key, value
    constants = [
        factor,
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("sides", TensorProto.INT64, [2], [1, 2]),
    ]
    info = helper.make_tensor_value_info
    images = info("images", TensorProto.FLOAT, ["n", 3, side, side])
    answers = [
        info("anomaly_map", TensorProto.FLOAT, ["n", side, side]),
        info("score", TensorProto.FLOAT, ["n"]),
    ]
    made = helper.make_graph(nodes, "g", [images], answers[:outputs], constants)
    opsets = [helper.make_opsetid("", 18)]
    model: onnx.ModelProto = helper.make_model(made, opset_imports=opsets, ir_version=8)
    if not secret:
        onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def described(**changes: object) -> dict[str, Any]:
    """What `model.json` says, hashes aside."""
    reached = {"tp": 1, "fp": 0, "fn": 0, "tn": 1}
    limit = {"value": LIMIT, "rule": "f1", "max_fpr": None, "reached": reached}
    return {
        "study": {"name": "bright", "trial": 3},
        "input": {"shape": ["batch", 3, SIDE, SIDE]},
        "thresholds": {"image": limit, "pixel": limit},
        "display": {"low": 0.0, "high": 1.0},
        **changes,
    }


def write_model(folder: Path, content: bytes | None = None, **changes: object) -> Path:
    """Write a model folder whose hashes hold, as a forger would."""
    folder.mkdir(exist_ok=True)
    files = {"model.onnx": graph() if content is None else content, "README.md": b"# card"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "model.json").write_text(seal(described(**changes), files))
    return folder


def save(path: Path, size: tuple[int, int] = (20, 12), seed: int = 0, **options: Any) -> Path:
    """A random picture of ``(width, height)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def run(model: Path, *images: Path | str, out: Path, batch: int = 8) -> int:
    """Exit code of the command."""
    try:
        predict_cli.predict(model, out, [str(image) for image in images], batch)
    except typer.Exit as end:
        return end.exit_code
    return 0
