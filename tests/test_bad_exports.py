"""Exported models that nobody should trust: refused, and nothing run."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from autosearch import cli
from autosearch.export.folder import seal

Refused = Callable[..., str]
Make = Callable[[Path], object]

SIDE = 16


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
    return bytes(model.SerializeToString())


def described(**changes: object) -> dict[str, Any]:
    reached = {"tp": 1, "fp": 0, "fn": 0, "tn": 1}
    limit = {"value": 0.5, "rule": "f1", "max_fpr": None, "reached": reached}
    return {
        "study": {"name": "bright", "trial": 3},
        "input": {"shape": ["batch", 3, SIDE, SIDE]},
        "thresholds": {"image": limit, "pixel": limit},
        "display": {"low": 0.0, "high": 1.0},
        **changes,
    }


def export(folder: Path, content: bytes, **changes: object) -> None:
    """Write a model folder whose hashes hold, as a forger would."""
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "model.json").write_text(seal(described(**changes), {"model.onnx": content}))


def changed(name: str, change: Callable[[bytes], bytes]) -> Make:
    return lambda model: (model / name).write_bytes(change((model / name).read_bytes()))


def manifest(change: Callable[[dict[str, Any]], object]) -> Make:
    """Change the description, as somebody who knows nothing of hashes would."""

    def apply(model: Path) -> None:
        content = json.loads((model / "model.json").read_text())
        change(content)
        (model / "model.json").write_text(json.dumps(content))

    return apply


def forged(content: bytes | None = None, **changes: object) -> Make:
    return lambda model: export(model, graph() if content is None else content, **changes)


EXPORTS: dict[str, Make] = {
    "a bit of the graph": changed("model.onnx", lambda old: old[:90] + b"?" + old[91:]),
    "half of the graph": changed("model.onnx", lambda old: old[: len(old) // 2]),
    "no graph": lambda model: (model / "model.onnx").unlink(),
    "a folder as graph": lambda model: (
        (model / "model.onnx").unlink(), (model / "model.onnx").mkdir()
    ),
    "a device as graph": lambda model: (
        (model / "model.onnx").unlink(), (model / "model.onnx").symlink_to("/dev/zero")
    ),
    "a pipe as graph": lambda model: (
        (model / "model.onnx").unlink(), os.mkfifo(model / "model.onnx")
    ),
    "another file as graph": lambda model: (
        (model / "model.onnx").unlink(), (model / "model.onnx").symlink_to("/etc/passwd")
    ),
    "a threshold": manifest(lambda m: m["thresholds"]["image"].update(value=9.0)),
    "a path": manifest(lambda m: m["files"].update({"../secret": {"bytes": 1, "sha256": "0"}})),
    "files": manifest(lambda m: m.update(files=[])),
    "a newer program": manifest(lambda m: m.update(version=2)),
    "no JSON": changed("model.json", lambda old: old[:50]),
    "nested JSON": changed("model.json", lambda old: b"[" * 100_000),
    "an endless description": lambda model: (
        (model / "model.json").unlink(), (model / "model.json").symlink_to("/dev/zero")
    ),
    "a list": changed("model.json", lambda old: b"[]"),
    "forged: no graph": forged(b"x" * 100),
    "forged: a pickle": forged(b"\x80\x04cos\nabort\n)R."),
    "forged: a graph of another size": forged(graph(32)),
    "forged: one output": forged(graph(outputs=1)),
    "forged: a graph that answers NaN": forged(graph(scale=float("nan"))),
    "forged: tensors in another file": forged(graph(secret=True)),
    "forged: another size": forged(input={"shape": ["batch", 3, 32, 32]}),
    "forged: no size": forged(input={"shape": []}),
    "forged: a size of zero": forged(input={"shape": [0]}),
    "forged: a huge size": forged(input={"shape": [10**9]}),
    "forged: a size in words": forged(input={"shape": ["wide"]}),
    "forged: no thresholds": forged(thresholds={}),
    "forged: a threshold in words": forged(thresholds={"image": "high", "pixel": "high"}),
    "forged: no study": forged(study=3),
    "forged: no scale": forged(display=[]),
    "forged: a scale in words": forged(display={"low": "dark", "high": "bright"}),
}  # fmt: skip


class TestExports:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        export(tmp_path / "model", graph())
        Image.new("RGB", (20, 20), "red").save(tmp_path / "image.png")
        np.float32(1.0).tofile(tmp_path / "secret")
        return tmp_path / "model"

    @pytest.mark.parametrize("case", EXPORTS)
    def test_that_are_damaged_or_forged(
        self, refused: Refused, model: Path, monkeypatch: pytest.MonkeyPatch, case: str
    ) -> None:
        # Where a file named by a graph would be looked for.
        monkeypatch.chdir(model.parent)
        EXPORTS[case](model)
        line = refused(
            model.parent, "predict", model, model.parent / "image.png",
            "--out", model.parent / "out",
        )  # fmt: skip
        assert "model" in line and not (model.parent / "out").exists()

    def test_tensors_in_another_file_are_not_read_by_openvino_either(
        self, refused: Refused, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("openvino")
        monkeypatch.chdir(model.parent)
        export(model, graph(secret=True))
        command = ["predict", model, "image.png", "--out", "out", "--provider", "openvino"]
        assert "other files" in refused(model.parent, *command)

    def test_images_with_names_that_are_no_text_are_skipped(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        folder = tmp_path / "in"
        folder.mkdir()
        for name in ("a.png", "b\udcff.png", "c\n\x1b[2J.png"):
            shutil.copy(tmp_path / "image.png", folder / name)
        (folder / "d\x1b[2J.png").write_bytes(b"x")
        command = ["predict", str(model), str(folder), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["autosearch", *command])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out = capsys.readouterr().out
        assert caught.value.code == 1 and "\x1b" not in out
        report = json.loads((tmp_path / "out" / "scores.json").read_text())
        assert [Path(entry["path"]).name for entry in report["images"]] == [
            "a.png", "c\n\x1b[2J.png"
        ]  # fmt: skip
        assert len(report["skipped"]) == 2
