"""The folder of an exported model: who changed it is found out, and who computes it is chosen."""

import hashlib
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from damage import Change, changed, cut, edited, overwritten, removed
from model_parts import LIMIT, SIDE, described, run, save, write_model

from autosearch.errors import ConfigError
from autosearch.export.folder import ModelError, load_model, read_file, read_manifest, seal


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of an exported model."""
    return write_model(tmp_path / "model")


manifest = partial(edited, "model.json")


def flip(content: bytes) -> bytes:
    """Change a bit in the middle."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


TAMPERED: dict[str, tuple[Change, str]] = {
    "threshold": (
        manifest(lambda c: c["thresholds"]["image"].update(value=9.0)), "model.json: was changed"
    ),
    "extra key": (manifest(lambda c: c.update(note="x")), "model.json: was changed"),
    "no hash": (manifest(lambda c: c.pop("sha256")), "model.json: was changed"),
    "hash of a file": (
        manifest(lambda c: c["files"]["model.onnx"].update(sha256="0" * 64)), "was changed"
    ),
    "another format": (manifest(lambda c: c.update(format="x")), "does not describe"),
    "another version": (manifest(lambda c: c.update(version=2)), "version 2"),
    "no JSON": (overwritten("model.json", "{"), "is not JSON"),
    "a list": (overwritten("model.json", "[]"), "does not describe"),
    "deep JSON": (overwritten("model.json", "[" * 100_000), "is not JSON"),
    "no description": (removed("model.json"), "no export here"),
    "one bit": (changed("model.onnx", flip), "model.onnx: is not the file"),
    "half a file": (cut("model.onnx", 0.5), "model.onnx: is not the file"),
    "no graph": (removed("model.onnx"), "model.onnx: cannot be read"),
}  # fmt: skip


class TestTampering:
    def test_untouched_it_loads(self, model: Path) -> None:
        loaded = load_model(model)
        assert (loaded.name, loaded.framing.size) == ("bright, trial 3", (SIDE, SIDE))

    @pytest.mark.parametrize("case", TAMPERED)
    def test_is_refused_in_one_line(self, model: Path, tmp_path: Path, case: str) -> None:
        change, message = TAMPERED[case]
        change(model)
        with pytest.raises(ModelError) as caught:
            run(model, save(tmp_path / "a.png"), out=tmp_path / "out")
        assert message in str(caught.value) and "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()

    def test_reformatting_is_none(self, model: Path) -> None:
        # The hash is that of the content; the order of keys and the spaces do not belong to it.
        content = json.loads((model / "model.json").read_text())
        (model / "model.json").write_text(json.dumps(dict(reversed(content.items()))))
        assert load_model(model).image_threshold.value == LIMIT

    def test_the_hash_is_one_that_others_can_compute(self, model: Path) -> None:
        content = json.loads((model / "model.json").read_text())
        stated = content.pop("sha256")
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest() == stated

    def test_an_orientation_that_there_is_not(self, model: Path) -> None:
        write_model(model, input={**described()["input"], "orientation": "sideways"})
        with pytest.raises(ModelError, match="images that are 'sideways'"):
            load_model(model)

    def test_a_description_that_says_too_little(self, model: Path) -> None:
        lacking = described()
        del lacking["thresholds"]["pixel"]
        files = {"model.onnx": model / "model.onnx"}
        (model / "model.json").write_text(seal(lacking, files))
        with pytest.raises(ModelError, match="lacks what prediction needs"):
            load_model(model)

    def test_a_graph_that_is_none(self, model: Path) -> None:
        files = {"model.onnx": b"x" * 100}
        (model / "model.onnx").write_bytes(files["model.onnx"])
        (model / "model.json").write_text(seal(described(), files))
        with pytest.raises(ModelError, match="onnxruntime refuses it"):
            load_model(model)

    def test_files_outside_are_out_of_reach(self, model: Path) -> None:
        # Only names that the description lists are read, and those that prediction asks for are
        # constants: a description cannot point elsewhere.
        with pytest.raises(ModelError, match="without \\.\\./secret"):
            read_file(model, read_manifest(model), "../secret")

    def test_an_export_without_graph(self, model: Path) -> None:
        (model / "model.json").write_text(seal(described(), {"README.md": b"# card"}))
        with pytest.raises(ModelError, match=r"without model\.onnx; it holds README\.md"):
            load_model(model)


class TestProviders:
    def test_that_are_not_there(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import onnxruntime

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecution"])
        with pytest.raises(ConfigError, match="--provider: 'cuda'"):
            load_model(model, "cuda")
        with pytest.raises(ConfigError, match="one of cpu, cuda, openvino"):
            load_model(model, "npu")

    @pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
    def test_that_are_not_installed(
        self, model: Path, monkeypatch: pytest.MonkeyPatch, package: str
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        provider = "cpu" if package == "onnxruntime" else "openvino"
        with pytest.raises(ConfigError, match=r"pip install 'autosearch\[(export|openvino)\]'"):
            load_model(model, provider)

    def test_openvino_agrees(self, model: Path) -> None:
        pytest.importorskip("openvino")
        images = np.random.default_rng(0).random((3, 3, SIDE, SIDE), dtype=np.float32)
        for ours, theirs in zip(
            load_model(model, "cpu", 1).run(images),
            load_model(model, "openvino", 1).run(images),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
