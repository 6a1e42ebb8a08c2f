"""A study whose banks have windows, from the search to the exported model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from export_parts import SIDE, detector_of, unseen

from autosearch.contracts.registry import find_space
from autosearch.data import load_search_data
from autosearch.errors import ConfigError
from autosearch.executors.local import LocalExecutor
from autosearch.export.chosen import exported_configuration
from autosearch.export.folder import load_model
from autosearch.export.trial import ExportOptions, all_normal, export_trial
from autosearch.spec.reading import load_spec
from autosearch.storage.folder import StudyFolder
from autosearch.study.inputs import load_inputs, reopen
from autosearch.study.session import open_driver, run

SPACE = (
    "{level2.extract: false, window: [0], rows_per_place: 5, coreset_ratio: [0.1, 0.2], "
    "metric: cosine}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study of one trial."""
    given = ["backbone.weights=random", f"dataset.image_size={SIDE}", "study.trials=1"]
    spec = load_spec(find_space("backbones"), [*given, f"space={SPACE}"])
    found, inputs = StudyFolder(tmp_path_factory.mktemp("study")), load_inputs(spec)
    run(inputs, found, open_driver(inputs, found), LocalExecutor())
    return found


def test_a_trial_keeps_what_a_patch_is_compared_with(folder: StudyFolder) -> None:
    (record,) = folder.trials.records()
    assert record.canonical["window"] == 0 and "coreset_ratio" not in record.canonical
    assert record.measured["rows_a_query"] == 5
    channels, places = 112, (SIDE // 16) ** 2
    assert record.measured["bank_mb"] == 4 * 5 * places * channels / 1e6
    assert record.measured["search_gflops"] == 2 * 5 * places * channels / 1e9


def test_a_share_of_all_patches_is_refused(folder: StudyFolder, tmp_path: Path) -> None:
    said = (
        "--coreset: 0.1 is not allowed.*trial 0 has a window; rows_per_place makes its bank small"
    )
    with pytest.raises(ConfigError, match=said):
        export_trial(folder, ExportOptions(0, coreset=0.1), tmp_path / "model")


def test_a_share_of_all_patches_replaces_a_number_of_rows(folder: StudyFolder) -> None:
    inputs, (record,) = reopen(folder), folder.trials.records()
    own = {**record.canonical, "window": None, "rows_per_place": None, "bank_rows": 50}
    found = replace(record, canonical=inputs.runner.canonical(own))
    assert found.canonical["bank_rows"] == 50
    exported = exported_configuration(inputs, found, 0.1)
    assert exported["coreset_ratio"] == 0.1 and exported["coreset_method"] == "kcenter"
    assert "bank_rows" not in exported


def test_the_exported_model_gives_the_same_maps(folder: StudyFolder, tmp_path: Path) -> None:
    exported = export_trial(folder, ExportOptions(0), tmp_path / "model")
    data = load_search_data(folder.load_spec().dataset)
    detector, images = detector_of(exported, folder, all_normal(data)), unseen(3)
    expected = detector.anomaly_maps(torch.from_numpy(images)).numpy()
    maps, _ = load_model(exported.path, threads=1).run(images)
    assert np.abs(maps - expected).max() <= 1e-4 * expected.max()
    card = (exported.path / "README.md").read_text()
    assert "window 0, rows_per_place 5" in card
    assert "in float32, of which a patch meets up to 5 rows." in card
    assert "`banks.*` are the memory banks" in card
