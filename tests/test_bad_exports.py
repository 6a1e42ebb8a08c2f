"""Exported models that nobody should trust: refused, and nothing run."""

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from damage import Change, Refused, changed, cut, edited, linked, overwritten, removed, replaced
from model_parts import graph, write_model
from PIL import Image

from autosearch import cli

manifest = partial(edited, "model.json")


def forged(content: bytes | None = None, **changes: object) -> Change:
    return lambda model: write_model(model, content, **changes)


EXPORTS: dict[str, Change] = {
    "a bit of the graph": changed("model.onnx", lambda old: old[:90] + b"?" + old[91:]),
    "half of the graph": cut("model.onnx", 0.5),
    "no graph": removed("model.onnx"),
    "a folder as graph": replaced("model.onnx", Path.mkdir),
    "a device as graph": linked("model.onnx", "/dev/zero"),
    "a pipe as graph": replaced("model.onnx", os.mkfifo),
    "another file as graph": linked("model.onnx", "/etc/passwd"),
    "a threshold": manifest(lambda m: m["thresholds"]["image"].update(value=9.0)),
    "a path": manifest(lambda m: m["files"].update({"../secret": {"bytes": 1, "sha256": "0"}})),
    "files": manifest(lambda m: m.update(files=[])),
    "a newer program": manifest(lambda m: m.update(version=2)),
    "no JSON": changed("model.json", lambda old: old[:50]),
    "nested JSON": overwritten("model.json", "[" * 100_000),
    "an endless description": linked("model.json", "/dev/zero"),
    "a list": overwritten("model.json", "[]"),
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
        write_model(tmp_path / "model")
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
        write_model(model, graph(secret=True))
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
