"""Validation with synthetic anomalies, from the spec to the figures of a trial."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from autosearch.contracts.objectives import Scored
from autosearch.contracts.trials import Assignment, Status, trial_seed
from autosearch.data import load_search_data
from autosearch.data.records import NORMAL
from autosearch.errors import DataError
from autosearch.metrics.ranking import Ranking
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.study.evaluation import TrialEvaluator
from autosearch.study.inputs import load_inputs
from autosearch.study.truth import truth_of
from autosearch.synthesis import add_synthetic

SIDE = 64


def spec(**validation: object) -> StudySpec:
    content = {
        "study": {"name": "test", "runner": "autopatch"},
        "objectives": ["gflops", "rwap"],
        "backbone": {"weights": "random"},
        "dataset": {"image_size": SIDE, "validation": {"normal": 4, **validation}},
        "space": {"stage0.extraction_block": 2, "stage1.extraction_block": None},
    }
    return parse_spec(content)


def split(kind: str, real: int, **settings: object):
    dataset = spec(real_per_type=real, synthetic={"kind": kind, **settings}).dataset
    return add_synthetic(load_search_data(dataset), dataset.validation.synthetic)


@pytest.mark.parametrize("kind", ["perlin", "cutpaste"])
@pytest.mark.parametrize("real", [0, 1])
def test_validation_gains_anomalies_of_a_type_of_their_own(kind: str, real: int) -> None:
    data = split(kind, real, per_image=2)
    val, name = data.val, f"synthetic_{kind}"
    made = np.array([found == name for found in val.types])
    assert made.sum() == 8 and sum(found == NORMAL for found in val.types) == 4
    assert val.labels.sum() - made.sum() == 4 * real
    assert val.masks[made].any(axis=(1, 2)).all() and not val.masks[~val.labels].any()
    assert data.info["counts"]["val"][name] == 8
    normal = val.pixels[~val.labels].repeat(2, axis=0)
    changed = np.abs(val.pixels[made] - normal).max(axis=1) > 0
    assert not (changed & ~val.masks[made]).any(), "nothing changes outside the mask"
    assert val.groups[-1] in val.groups[:-8] and len(set(val.paths)) == len(val.paths)


def test_there_are_both_kinds_unless_one_is_asked_for() -> None:
    data = split("both", 1, per_image=2)
    kinds = Counter(kind for kind in data.val.types if kind.startswith("synthetic"))
    assert kinds == {"synthetic_perlin": 8, "synthetic_cutpaste": 8}
    for kind in ("perlin", "cutpaste"):
        own = np.array([found == f"synthetic_{kind}" for found in data.val.types])
        alone = split(kind, 1, per_image=2).val
        same = np.array([found == f"synthetic_{kind}" for found in alone.types])
        assert np.array_equal(data.val.pixels[own], alone.pixels[same])


def test_the_same_settings_give_the_same_split_and_others_another_hash() -> None:
    first, again = split("perlin", 1), split("perlin", 1)
    assert np.array_equal(first.val.pixels, again.val.pixels)
    assert first.info == again.info
    digests = {
        first.info["sha256"],
        split("perlin", 1, seed=1).info["sha256"],
        split("cutpaste", 1).info["sha256"],
        load_search_data(spec(real_per_type=1).dataset).info["sha256"],
    }
    assert len(digests) == 4


def test_no_anomaly_at_all_is_refused() -> None:
    with pytest.raises(DataError, match=r"no anomalous image.*validation\.synthetic"):
        load_search_data(spec(real_per_type=0).dataset)


def test_a_missing_folder_of_textures_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        split("perlin", 0, textures=str(tmp_path / "missing"))


@pytest.mark.parametrize("real", [0, 1])
def test_a_trial_is_scored_on_either_kind(real: int) -> None:
    inputs = load_inputs(spec(real_per_type=real, synthetic={"kind": "perlin"}))
    canonical = inputs.runner.canonical({"stage0.extraction_block": 2})
    evaluate = TrialEvaluator(inputs.spec, inputs.runner, inputs.data)
    outcome = evaluate(Assignment(0, {}, canonical, trial_seed(0, canonical)))
    assert outcome.status == Status.COMPLETE and 0 < outcome.values["rwap"] < 1
    made = {"rwap_synthetic", "ap_synthetic"}
    parts = {*made, "rwap_real", "rwap_mixed"}
    assert parts & outcome.measured.keys() == (parts if real else made)
    with np.load(io.BytesIO(outcome.artifacts["choice.npz"])) as kept:
        drawn = {
            name: kept[f"draws.{name}"] for name in ("rwap", "rwap_synthetic", "ap_synthetic")
        }
    if not real:
        assert outcome.measured["rwap_synthetic"] == outcome.values["rwap"]
        assert np.array_equal(drawn["rwap_synthetic"], drawn["rwap"])
    if real:
        val = inputs.data.val
        maps = np.random.default_rng(0).random(val.masks.shape).astype(np.float32)
        scored = Scored(maps, truth_of(val), {}, synthetic=val.synthetic)
        chosen = {"real": ~val.synthetic, "synthetic": val.synthetic | ~val.labels}
        for kind, wanted in chosen.items():
            indices = np.flatnonzero(wanted)
            alone = Ranking.from_maps(maps[indices], truth_of(val, indices))
            ranking = getattr(scored, f"{kind}_ranking")
            assert ranking.rwap() == pytest.approx(alone.rwap(), rel=1e-12)
            assert ranking.ap() == pytest.approx(alone.ap(), rel=1e-12)
            assert ranking.rwap() != scored.ranking.rwap()
