"""Exports whose graph passes what one file holds: tensors beside it, hashed and found again."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_parts import Exports, unseen
from torch import Tensor, nn

from autosearch.errors import ConfigError
from autosearch.export.folder import load_model, seal
from autosearch.export.trial import Exported
from autosearch.graphs import ModelError, TooLarge, onnx_beside, onnx_bytes, write_graph
from autosearch.graphs.runtimes import check_beside, onnx_run, openvino_run

SIDE = 16


class Wide(nn.Module):
    """Maps of a convolution with many numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = nn.Conv2d(3, 512, 1), nn.Conv2d(512, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.down(self.up(images).relu())[:, 0]


@pytest.fixture
def large_export(exports: Exports) -> Exported:
    return exports.large


class TestExport:
    def test_answers_as_one_of_a_single_file(
        self, large_export: Exported, plain_export: Exported
    ) -> None:
        found, plain = (load_model(e.path, threads=1) for e in (large_export, plain_export))
        images = unseen(2)
        for one, other in zip(found.run(images), plain.run(images), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)

    def test_has_its_tensors_beside_it(self, large_export: Exported) -> None:
        files, folder = large_export.manifest["files"], large_export.path
        assert {"model.onnx", "model.data"} < set(files)
        assert files["model.onnx"]["bytes"] < 1e6 < files["model.data"]["bytes"]
        onnx.checker.check_model(folder / "model.onnx", full_check=True)
        card = (folder / "README.md").read_text()
        assert "`model.data` holds the large tensors of `model.onnx`" in card
        assert f"| `model.data` | {files['model.data']['bytes'] / 1e6:.2f} MB |" in card

    def test_is_refused_when_these_are_damaged(
        self, large_export: Exported, tmp_path: Path
    ) -> None:
        folder = tmp_path / "copy"
        shutil.copytree(large_export.path, folder)
        path = folder / "model.data"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(ModelError, match=r"model\.data: is not the file") as raised:
            load_model(folder)
        assert str(raised.value).count(str(folder)) == 1
        path.unlink()
        with pytest.raises(ModelError, match=r"model\.data: cannot be read \(no such file\)"):
            load_model(folder)

    def test_is_refused_where_it_names_other_files(
        self, large_export: Exported, tmp_path: Path
    ) -> None:
        folder = tmp_path / "copy"
        shutil.copytree(large_export.path, folder)
        graph = folder / "model.onnx"
        graph.write_bytes(graph.read_bytes().replace(b"model.data", b"../secret.", 1))
        kept = {k: v for k, v in large_export.manifest.items() if k not in ("files", "sha256")}
        names = large_export.manifest["files"]
        (folder / "model.json").write_text(seal(kept, {name: folder / name for name in names}))
        with pytest.raises(ModelError, match=r"in other files than model\.data"):
            load_model(folder)


class TestGraphs:
    def test_all_that_is_large_is_moved(self, tmp_path: Path) -> None:
        graph, data = onnx_beside(Wide().eval(), (SIDE, SIDE), "w.data")
        assert len(graph) < 10_000 and len(data) > 3 * 512 * 4
        check_beside(graph, "w.data")
        with pytest.raises(ModelError, match=r"other files than v\.data"):
            check_beside(graph, "v.data")
        path = write_graph(tmp_path, graph, "w.data", data)
        images = np.random.default_rng(0).random((3, 3, SIDE, SIDE), dtype=np.float32)
        expected = Wide()(torch.from_numpy(images)).detach().numpy()
        for run in (onnx_run(path, threads=1), openvino_run(path, None, 1)):
            np.testing.assert_allclose(run(images)[0], expected, rtol=1e-3, atol=1e-5)

    def test_one_file_holds_what_the_limit_allows(self) -> None:
        module = Wide().eval()
        with pytest.raises(TooLarge, match=r"^graph: .* a file$"):  # No bank, and no --coreset.
            onnx_bytes(module, (SIDE, SIDE), limit=8_000)
        assert len(onnx_bytes(module, (SIDE, SIDE), limit=20_000)) < 20_000

    def test_constants_count_as_well(self) -> None:
        module = Wide().eval()
        module.down = nn.Conv2d(512, 1, 1)
        weight = module.up.weight.detach()
        del module.up.weight
        module.up.register_buffer("weight", weight, persistent=False)
        assert sum(t.nbytes for t in module.state_dict().values()) < 5_000
        with pytest.raises(TooLarge):
            onnx_bytes(module, (SIDE, SIDE), limit=5_000)

    def test_other_opsets_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"--opset: 15 .*18 for a graph that passes 2 GB"):
            onnx_beside(Wide().eval(), (SIDE, SIDE), "w.data", opset=15)
