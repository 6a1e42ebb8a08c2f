"""Exports of the only trials of small studies, and detectors to compare them with."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autosearch.contracts.detector import TrialContext
from autosearch.contracts.registry import find_space
from autosearch.executors.local import LocalExecutor
from autosearch.export.trial import Exported, ExportOptions, export_trial
from autosearch.spec.reading import load_spec
from autosearch.storage.folder import StudyFolder
from autosearch.study.inputs import load_inputs, reopen
from autosearch.study.session import open_driver, run

SIDE = 64
SPACES = {
    "autopatch": "{width: 1.0, stage0.extraction_block: [2], stage0.kernel_size: 5, "
    "stage0.patch_size: 4, stage1.extraction_block: 5, stage1.patch_size: 3, "
    "stage3.extraction_block: null}",
    "backbones": "{level1.extract: [true], level1.patch_size: 2, level2.extract: false, "
    "level3.extract: false, num_neighbors: 3, coreset_ratio: 0.5, coreset_method: random}",
}


class Exports:
    """Studies and exports that many tests look at and none changes, made when first asked for.

    Args:
        results: Folder for all of them.
    """

    def __init__(self, results: Path) -> None:
        self.results = results

    @cached_property
    def study(self) -> StudyFolder:
        """A study of AutoPatch subnets; the memory bank keeps everything."""
        return _search(self.results, "autopatch")

    @cached_property
    def plain(self) -> Exported:
        """Its only trial, exported as it is."""
        return export_trial(self.study, ExportOptions(0))

    @cached_property
    def large(self) -> Exported:
        """The same as if one file held no more than a hundred kilobytes."""
        options = ExportOptions(0, ("onnx",), limit=100_000)
        return export_trial(self.study, options, self.results / "large")

    @cached_property
    def backbones(self) -> StudyFolder:
        """A study of a fixed backbone with several neighbours."""
        return _search(self.results, "backbones")

    @cached_property
    def small(self) -> Exported:
        """Its only trial with a smaller bank, in half precision."""
        options = ExportOptions(
            0, ("onnx", "torch"), coreset=0.2, half=True, rule="fpr", max_fpr=0.1
        )
        return export_trial(self.backbones, options, self.results / "out" / "small")


def _search(results: Path, space: str) -> StudyFolder:
    """A study of one trial at 64 pixels with random weights."""
    given = ["backbone.weights=random", f"dataset.image_size={SIDE}", "study.trials=1"]
    spec = load_spec(find_space(space), [*given, f"space={SPACES[space]}"])
    folder = StudyFolder(results / space)
    inputs = load_inputs(spec)
    run(inputs, folder, open_driver(inputs, folder), LocalExecutor())
    return folder


def detector_of(exported: Exported, folder: StudyFolder, train: Any, **bank: Any) -> Any:
    """A detector built by the runner itself, from nothing but the export's description."""
    runner = reopen(folder).runner
    found = exported.manifest
    params = runner.canonical({**found["configuration"]["search"], **bank})
    context = TrialContext(found["study"]["trial_seed"], "cpu", (SIDE, SIDE))
    detector = runner.build(params, context)
    detector.fit(train)
    return detector


def unseen(number: int) -> np.ndarray:
    """Pictures that no split holds: smooth, so that features differ from those of the demo."""
    noise = torch.rand(number, 3, 6, 6, generator=torch.Generator().manual_seed(7))
    return nn.functional.interpolate(noise, (SIDE, SIDE), mode="bilinear").numpy()
