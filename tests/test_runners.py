"""All of our runners hold what every runner must."""

from functools import cache

import pytest

from autosearch.contracts import Runner, registry
from autosearch.spec import Params, parse_spec
from autosearch.testing import RunnerSuite


@cache
def made(name: str, parameter: str, *values: float) -> Runner:
    """A runner with random weights, for a study that searches one parameter."""
    content = {
        "study": {"name": "test", "runner": name},
        "space": {parameter: list(values)},
        "objectives": ["gflops", "rwap"],
        "backbone": {"weights": "random"},
    }
    runner = registry.load_runner(name)
    if runner.supervised:
        content["dataset"] = {"labelled": {}}
    return runner(parse_spec(content))


BANK: Params = {"coreset_ratio": 0.5, "coreset_method": "random", "num_neighbors": 3}


class TestAutoPatch(RunnerSuite):
    configurations = (
        {},
        {"stage1.patch_size": 2, "stage3.patch_size": 16},
        BANK,
        {"bn_recalibration": True},
        {"window": 1, "rows_per_place": 2},
    )
    tolerance = 5e-5

    @pytest.fixture
    def runner(self) -> Runner:
        return made("autopatch", "stage1.extraction_block", 5, 6)


class TestPatchCore(RunnerSuite):
    configurations = (
        {},
        {"level2.patch_size": 4, "level3.patch_size": 16},
        BANK,
        {"fusion": "levels", "metric": "cosine", "window": 0, "neighbour_images": 1},
    )
    tolerance = 5e-5

    @pytest.fixture
    def runner(self) -> Runner:
        return made("patchcore", "level2.patch_size", 1, 2)


GLASS: Params = {
    "embed_dim": 32,
    "disc_hidden": 16,
    "epochs": 2,
    "ascent_steps": 3,
    "batch": 3,
    "lr": 1e-3,
}


class TestGlass(RunnerSuite):
    configurations = (
        GLASS,
        GLASS | {"embedding": "mean", "smoothing_sigma": 0.0, "epochs": 1},
        GLASS | {"layers": "1+2+3", "adaptor_layers": 0, "epochs": 1},
    )
    side = 32
    never = ("folder",)
    tolerance = 1e-5

    @pytest.fixture
    def runner(self) -> Runner:
        return made("glass", "lr", 1e-4, 1e-3)


SYNTH4SEG: Params = {
    "decoder_width": 32,
    "epochs": 2,
    "images_per_epoch": 4,
    "outer_interval": 2,
    "outer_batch": 2,
    "warmup_fraction": 0.25,
    "neumann_terms": 1,
    "lr": 1e-3,
}


class TestSynth4Seg(RunnerSuite):
    configurations = (
        SYNTH4SEG | {"outer_task": "none", "sources": "trivial_augment+photometric+scale"},
        SYNTH4SEG | {"outer_task": "source_weights", "sources": "trivial_augment+scale"},
        SYNTH4SEG | {"outer_task": "location", "sources": "combined", "epochs": 1},
    )
    side = 32
    drawn = 600
    dependent_defaults = ("warmup_fraction", "epochs", "halve_every_fraction")
    texts = ("all", "combined", "scale+rotation+defect_free", "trivial_augment+combined")
    tolerance = 1e-5

    @pytest.fixture
    def runner(self) -> Runner:
        return made("synth4seg", "lr", 1e-4, 1e-3)
