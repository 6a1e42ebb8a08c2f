"""All of our runners hold what every runner must."""

from functools import cache

import pytest
from autosearch_runners.autoencoder.runner import PRESETS as AUTOENCODER_PRESETS
from autosearch_runners.baselines import METHODS
from autosearch_runners.csflow.runner import PRESETS as CSFLOW_PRESETS
from autosearch_runners.draem.runner import ORIGINAL as DRAEM_PRESET
from autosearch_runners.fastflow.runner import PRESETS as FASTFLOW_PRESETS
from autosearch_runners.reverse_distillation.runner import PRESETS as REVERSE_PRESETS

from autosearch.contracts import Runner, registry
from autosearch.spec import Params, parse_spec
from autosearch.testing import RunnerSuite


@cache
def made(name: str, parameter: str, *values: float | str) -> Runner:
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
        {"image_score": "reweighted", "distance": "root", "train_images": 2},
    )
    never = ("original", "miad")
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


REVERSE: Params = {"layers": "1+2", "epochs": 2, "batch": 2}


class TestReverseDistillation(RunnerSuite):
    configurations = (
        REVERSE,
        REVERSE | {"layers": "1", "compared": "map", "epochs": 1},
        REVERSE | {"layers": "2+3", "map_mode": "multiply", "decoder_blocks": 2, "epochs": 1},
    )
    dependent_defaults = tuple(REVERSE_PRESETS["original"])
    never = tuple(REVERSE_PRESETS)
    tolerance = 1e-5

    @pytest.fixture
    def runner(self) -> Runner:
        return made("reverse_distillation", "lr", 1e-3, 5e-3)


FASTFLOW: Params = {"flow_steps": 2, "epochs": 2, "batch": 3, "lr": 1e-3}


class TestFastFlow(RunnerSuite):
    configurations = (
        FASTFLOW,
        FASTFLOW | {"layers": "2", "conv3x3_only": True, "hidden_ratio": 0.5, "epochs": 1},
        FASTFLOW | {"layers": "1+3", "flow_steps": 1, "patience": 1},
    )
    side = 32
    dependent_defaults = tuple(FASTFLOW_PRESETS["miad"])
    never = tuple(FASTFLOW_PRESETS)
    tolerance = 1e-5

    @pytest.fixture
    def runner(self) -> Runner:
        return made("fastflow", "lr", 1e-4, 1e-3)


CSFLOW: Params = {"layers": "1", "blocks": 2, "hidden": 8, "epochs": 2, "batch": 3, "lr": 1e-2}


class TestCsFlow(RunnerSuite):
    configurations = (
        CSFLOW,
        CSFLOW | {"layers": "2", "cell_score": "norm", "epochs": 1},
        CSFLOW | {"blocks": 1, "image_score": "max", "patience": 1},
    )
    side = 32
    dependent_defaults = tuple(CSFLOW_PRESETS["original"])
    never = tuple(CSFLOW_PRESETS)
    tolerance = 1e-5

    @pytest.fixture
    def runner(self) -> Runner:
        return made("csflow", "lr", 1e-4, 1e-3)


DRAEM: Params = {"base_width": 4, "disc_width": 4, "epochs": 2, "batch": 3, "smoothing": 5}


class TestDraem(RunnerSuite):
    configurations = (
        DRAEM,
        DRAEM | {"epochs": 1, "texture_source": "self", "texture_ops": "miad", "smoothing": 1},
    )
    side = 40
    learns_at_once = False
    never = ("folder",)
    dependent_defaults = tuple(DRAEM_PRESET)

    @pytest.fixture
    def runner(self) -> Runner:
        return made("draem", "lr", 1e-4, 1e-3)


AUTOENCODER: Params = {"base_width": 8, "code_size": 16, "epochs": 1, "batch": 3, "lr": 1e-2}


class TestAutoEncoder(RunnerSuite):
    configurations = (
        AUTOENCODER | {"epochs": 12, "loss": "l2", "smoothing_sigma": 1.0},
        AUTOENCODER | {"smoothing_sigma": 0.0},
        AUTOENCODER | {"architecture": "unet", "depth": 4},
    )
    side = 32
    dependent_defaults = tuple(AUTOENCODER_PRESETS["original"] | AUTOENCODER_PRESETS["miad"])

    @pytest.fixture
    def runner(self) -> Runner:
        return made("autoencoder", "lr", 1e-4, 1e-3)


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


UNIAD: Params = {
    "layers": "1+2",
    "stride": 8,
    "hidden": 16,
    "heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "feedforward": 16,
    "neighbour_mask": 1,
    "epochs": 2,
    "batch": 2,
}


class TestUniAD(RunnerSuite):
    configurations = (
        UNIAD,
        UNIAD | {"layers": "0+1+2+3", "neighbour_mask": 3, "jitter_scale": 0.0, "epochs": 1},
        UNIAD | {"stride": 16, "neighbour_mask": None, "mean_pool": 1, "epochs": 1},
    )
    side = 32
    never = ("original", "miad")
    tolerance = 1e-5

    @pytest.fixture
    def runner(self) -> Runner:
        return made("uniad", "lr", 1e-4, 1e-3)


class TestBaselines(RunnerSuite):
    configurations = (
        {"method": "patchcore", "patchcore/bank_rows": 50},
        {"method": "glass", **{f"glass/{name}": value for name, value in GLASS.items()}},
    )
    side = 32
    never = ("folder", "original", "miad", *METHODS.keys() - {"patchcore", "glass"})
    tolerance = 5e-5

    @pytest.fixture
    def runner(self) -> Runner:
        return made("baselines", "method", "patchcore", "glass")
