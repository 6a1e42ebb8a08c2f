"""Which runtimes an exported graph is for: its opset, its IR version, and the oldest one that ran.

The oldest runtime is installed into an environment of its own if ``AUTOSEARCH_OLD_RUNTIME=1``.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_parts import Exports, unseen
from test_runners import GLASS, SYNTH4SEG, made
from torch import Tensor, nn

from autosearch.api import open_study
from autosearch.contracts import Detector, TrialContext
from autosearch.errors import ConfigError
from autosearch.export.trial import Exported
from autosearch.graphs import OLDEST_RUNTIME, OPSETS, largest_difference, onnx_bytes
from autosearch.graphs.onnx_graph import _converted
from autosearch.testing.images import image_set

SIDE = 32
IR_VERSION = 8
"""Of all these opsets, by the table of the ONNX standard."""


class Small(nn.Module):
    """Has the operations of which versions differ: reductions, resizing, what asks for a shape."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 48, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, S, S)`` to ``(N, S, S)``."""
        size = images.shape[-2:]
        patches = nn.functional.pixel_unshuffle(images, 4)
        distances = torch.einsum("pc,nchw->nphw", self.weight, patches).square()
        maps = nn.functional.hardswish(distances.sum(1, keepdim=True))
        maps = maps + patches.mean(1, keepdim=True) + maps.amin((2, 3), keepdim=True)
        maps = nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)
        return maps[:, 0]


@pytest.fixture(scope="module")
def graphs() -> dict[int, bytes]:
    """A small graph in every opset."""
    return {opset: onnx_bytes(Small().eval(), (SIDE, SIDE), opset=opset) for opset in OPSETS}


def test_all_opsets_give_the_same_maps(graphs: dict[int, bytes]) -> None:
    assert list(graphs) == [15, 16, 17, 18]
    for batch in (1, 3):
        images = unseen(batch)[:, :, :SIDE, :SIDE]
        with torch.inference_mode():
            expected = Small()(torch.from_numpy(images)).numpy()
        for opset, graph in graphs.items():
            model = onnx.load_from_string(graph)
            assert (model.opset_import[0].version, model.ir_version) == (opset, IR_VERSION)
            session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
            maps, scores = session.run(None, {"images": images})
            assert largest_difference(expected, maps) <= 1e-5
            np.testing.assert_array_equal(scores, maps.max((1, 2)))


def test_what_onnx_cannot_convert_is_told_as_such(graphs: dict[int, bytes]) -> None:
    model = onnx.load_from_string(graphs[18])
    said = rf"--opset: 14 .*expected 18, as onnx {onnx.__version__} cannot convert to it \(No Ada"
    with pytest.raises(ConfigError, match=said):
        _converted(onnx, model, 14)


def test_half_precision_goes_with_every_opset() -> None:
    module = Small().eval()
    with torch.no_grad():
        module.weight.copy_(module.weight.half().float())
    model = onnx.load_from_string(onnx_bytes(module, (SIDE, SIDE), half=True, opset=15))
    assert (model.opset_import[0].version, model.ir_version) == (15, IR_VERSION)
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in model.graph.initializer}


def test_an_export_says_what_it_is_for(plain_export: Exported) -> None:
    model = onnx.load(plain_export.path / "model.onnx")
    assert (model.opset_import[0].version, model.ir_version) == (18, IR_VERSION)
    assert plain_export.manifest["opset"] == 18
    assert plain_export.manifest["tested_from"] == {"onnxruntime": OLDEST_RUNTIME}
    card = (plain_export.path / "README.md").read_text()
    assert (
        f"opset 18, with the lowest IR version that goes with it. The oldest version of ONNX \
Runtime that such graphs were tested with is {OLDEST_RUNTIME};"
        in card
    )


def test_an_export_in_another_opset(exports: Exports, tmp_path: Path) -> None:
    study = open_study(exports.study.path)
    path = study.export(0, formats=("onnx",), opset=15, out=tmp_path / "model")
    assert onnx.load(path / "model.onnx").opset_import[0].version == 15
    assert "opset 15, " in (path / "README.md").read_text()


@pytest.mark.parametrize("opset", [14, 19, 0, -1])
def test_others_are_refused_before_anything_is_fitted(
    exports: Exports, tmp_path: Path, opset: int
) -> None:
    said = rf"--opset: {opset} is not allowed; expected a whole number from 15 to 18"
    with pytest.raises(ConfigError, match=said):
        open_study(exports.study.path).export(0, opset=opset, out=tmp_path / "model", progress=_no)


def _no(update: object) -> None:
    raise AssertionError(update)


OLD = """
import sys
import numpy, onnxruntime

assert onnxruntime.__version__ == sys.argv[1]
known = numpy.load(sys.argv[2])
for path in sys.argv[3:]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, len(known["images"])):
        maps, _ = session.run(None, {"images": known["images"][:batch]})
        expected = known["maps"][:batch]
        assert abs(maps - expected).max() <= 1e-4 * abs(expected).max(), (path, batch)
print(len(sys.argv[3:]), "graphs")
"""


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the oldest runtime."""
    if os.environ.get("AUTOSEARCH_OLD_RUNTIME") != "1":
        pytest.skip("AUTOSEARCH_OLD_RUNTIME=1 installs it")
    if sys.version_info >= (3, 12):
        pytest.skip(f"onnxruntime {OLDEST_RUNTIME} has no wheels for this Python")
    folder = tmp_path_factory.mktemp("old")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    wanted = [f"onnxruntime=={OLDEST_RUNTIME}", "numpy<2"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True, timeout=600)
    return python


SIGNAL = """
import gc, pathlib, signal, sys
from autosearch.graphs import openvino_run

runs = [openvino_run(pathlib.Path(sys.argv[1]).read_bytes(), None, 1) for _ in range(2)]
for _ in range(2):
    del runs[0]
    gc.collect()
told = []
signal.signal(signal.SIGTERM, lambda number, frame: told.append("told"))
signal.raise_signal(signal.SIGTERM)
print(*told)
"""


def test_a_process_that_has_run_openvino_can_still_be_told_to_stop(
    graphs: dict[int, bytes], tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "model.onnx").write_bytes(graphs[18])
    command = [sys.executable, "-c", SIGNAL, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("told", 0), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["autopatch", "patchcore", "glass", "synth4seg"])
def test_the_oldest_runtime_gives_the_same_maps(
    old_python: Path, tmp_path: Path, name: str
) -> None:
    detector = _fitted(name)
    images = image_set(SIDE, 2, 1, seed=3).pixels.copy()
    maps = detector.anomaly_maps(torch.from_numpy(images)).numpy()
    np.savez(tmp_path / "known.npz", images=images, maps=maps)
    paths = []
    for opset in OPSETS:
        paths.append(tmp_path / f"{opset}.onnx")
        paths[-1].write_bytes(onnx_bytes(detector.module(), (SIDE, SIDE), opset=opset))
    command = [old_python, "-c", OLD, OLDEST_RUNTIME, tmp_path / "known.npz", *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4", "graphs"]


def _fitted(name: str) -> Detector:
    """A detector of every runner, of random weights."""
    params = {"glass": GLASS, "synth4seg": SYNTH4SEG | {"outer_task": "none"}}.get(name, {})
    searched = {
        "autopatch": ("stage1.extraction_block", 5, 6),
        "patchcore": ("level2.patch_size", 1, 2),
    }.get(name, ("lr", 1e-4, 1e-3))
    runner = made(name, *searched)
    context = TrialContext(0, "cpu", (SIDE, SIDE), image_set(SIDE, 2, 3, seed=2))
    detector = runner.build(runner.canonical(params), context)
    detector.fit(image_set(SIDE, 3, 3 if runner.supervised else 0, seed=0))
    return detector
