"""``dataset.validation.synthetic: auto``: anomalies beside the real ones, which change nothing."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_parts import checked, mask, photo, sound_dataset

from autosearch.contracts.trials import Assignment, Outcome, Status, trial_seed
from autosearch.data.drawn import makes_beside
from autosearch.data.records import NORMAL
from autosearch.errors import ConfigError
from autosearch.spec.reading import load_spec, parse_spec
from autosearch.spec.sections import StudySpec, SyntheticSpec
from autosearch.storage.folder import YOUNGER
from autosearch.study.evaluation import TrialEvaluator
from autosearch.study.inputs import Inputs, load_inputs
from autosearch.synthesis import add_synthetic, split as split_module


def spec(objectives: tuple[str, ...] = ("gflops", "rwap"), **validation: object) -> StudySpec:
    content = {
        "study": {"name": "test", "runner": "autopatch"},
        "objectives": list(objectives),
        "backbone": {"weights": "random"},
        "dataset": {"image_size": 32, "validation": {"normal": 4, **validation}},
        "space": {"stage0.extraction_block": 2, "stage1.extraction_block": None},
    }
    return parse_spec(content)


def outcome(inputs: Inputs) -> Outcome:
    canonical = inputs.runner.canonical({"stage0.extraction_block": 2})
    evaluate = TrialEvaluator(inputs.spec, inputs.runner, inputs.data)
    found = evaluate(Assignment(0, {}, canonical, trial_seed(0, canonical)))
    assert found.status == Status.COMPLETE, found.reason
    return found


@pytest.fixture(scope="module")
def beside() -> Inputs:
    return load_inputs(spec())


@pytest.fixture(scope="module")
def plain() -> Inputs:
    return load_inputs(spec(synthetic=None))


class TestDefault:
    def test_is_auto_and_older_studies_have_none(self) -> None:
        assert spec().dataset.validation.synthetic == "auto"
        older = load_spec({**spec().model_dump(), "dataset": {"image_size": 32}}, (), YOUNGER)
        assert older.dataset.validation.synthetic is None

    def test_can_be_replaced_on_the_command_line(self) -> None:
        whole = spec().model_dump()
        made = load_spec(whole, ["dataset.validation.synthetic.kind=cutpaste"])
        assert made.dataset.validation.synthetic == SyntheticSpec(kind="cutpaste")
        none = load_spec(whole, ["dataset.validation.synthetic=null"])
        assert none.dataset.validation.synthetic is None
        for word in ("no", "3", "[1]"):
            with pytest.raises(
                ConfigError, match=r"validation\.synthetic: .* auto, null or a map"
            ):
                load_spec(whole, [f"dataset.validation.synthetic={word}"])

    @pytest.mark.parametrize(
        ("types", "expected"),
        [("aaaaab", True), ("aaaabbbbb", True), ("aaaaabbbbb", False), ("aa", True), ("", False)],
    )
    def test_is_for_types_with_fewer_than_five(self, types: str, expected: bool) -> None:
        assert makes_beside([*types, NORMAL, NORMAL]) == expected

    def test_is_said_in_the_line_of_the_data(self, beside: Inputs, tmp_path: Path) -> None:
        said = "fewer than 5 of some type, so synthetic ones are made for rwap_synthetic"
        assert said in str(beside.data.info["rule"])
        for i in range(3, 6):
            photo(tmp_path / f"part/test/hole/{i:03}.png", 30 + i)
            mask(tmp_path / f"part/ground_truth/hole/{i:03}_mask.png")
        sound_dataset(tmp_path / "part")
        assert said in checked(tmp_path / "part").defects
        assert said not in checked(tmp_path / "part", validation={"real_per_type": 5}).defects


class TestFigures:
    def test_of_real_anomalies_are_what_they_are_without(
        self, beside: Inputs, plain: Inputs
    ) -> None:
        with_made, without = outcome(beside), outcome(plain)
        assert with_made.values == without.values
        more = {"rwap_real", "rwap_synthetic", "ap_synthetic", "rwap_mixed"}
        assert with_made.measured.keys() - without.measured.keys() == more
        same = {name: with_made.measured[name] for name in without.measured}
        assert same == pytest.approx(without.measured)
        assert with_made.measured["rwap_real"] == with_made.values["rwap"]
        assert 0 < with_made.measured["rwap_synthetic"] < 1
        with np.load(io.BytesIO(with_made.artifacts["choice.npz"])) as kept:
            assert len(kept["draws.rwap_synthetic"]) == len(kept["draws.ap_synthetic"]) == 200
            assert kept["draws.rwap"].shape == (200,)
        assert "draws.rwap_synthetic" not in np.load(io.BytesIO(without.artifacts["choice.npz"]))

    def test_of_made_ones_can_be_searched_for(self, beside: Inputs) -> None:
        asked = load_inputs(spec(("gflops", "rwap_mixed")))
        found, other = outcome(asked), outcome(beside)
        assert found.values["rwap_mixed"] == other.measured["rwap_mixed"]
        assert "synthetic" in asked.guard() and "synthetic" not in beside.guard()

    def test_of_made_ones_are_refused_where_there_are_none(self) -> None:
        for name in ("rwap_mixed", "rwap_synthetic"):
            with pytest.raises(
                ConfigError, match=rf"objectives: '{name}' .* no synthetic anomaly"
            ):
                load_inputs(spec(("gflops", name), synthetic=None))
        with pytest.raises(ConfigError, match=r"objectives: 'rwap_mixed' .* no real anomaly"):
            load_inputs(spec(("gflops", "rwap_mixed"), real_per_type=0, synthetic={}))


class TestMade:
    def test_data_and_its_hash_stay(self, beside: Inputs, plain: Inputs) -> None:
        assert beside.data.info["sha256"] == plain.data.info["sha256"]
        assert beside.data.val.paths == plain.data.val.paths
        made = beside.data.made
        assert made is not None and plain.data.made is None
        assert Counter(made.types) == {"synthetic_perlin": 4, "synthetic_cutpaste": 4}
        assert made.masks.any(axis=(1, 2)).all() and made.synthetic.all()
        told = beside.data.info["validation_beside"]
        assert told["images"] == 8 and told["kind"] == "both"  # type: ignore[index]

    def test_as_many_as_there_is_room_for(
        self, plain: Inputs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(split_module, "_BESIDE", 2)
        made = add_synthetic(plain.data, "auto").made
        normal = [path for path, kind in zip(plain.data.val.paths, plain.data.val.types,
                                             strict=True) if kind == NORMAL]  # fmt: skip
        assert made is not None
        assert [path.partition("#")[0] for path in made.paths] == [normal[0], normal[2]] * 2

    @pytest.mark.parametrize(("failing", "left"), [("perlin", "cutpaste"), ("cutpaste", "perlin")])
    def test_a_kind_that_cannot_be_made_is_left_out(
        self, plain: Inputs, monkeypatch: pytest.MonkeyPatch, failing: str, left: str
    ) -> None:
        make = split_module.synthetic_validation

        def some(normals: Any, kind: Any, *others: Any, **settings: Any) -> Any:
            if kind == failing:
                raise ConfigError("kind", kind, "another")
            return make(normals, kind, *others, **settings)

        monkeypatch.setattr(split_module, "synthetic_validation", some)
        made = add_synthetic(plain.data, "auto").made
        assert made is not None and Counter(made.types) == {f"synthetic_{left}": 4}
        inside = add_synthetic(plain.data, SyntheticSpec())
        assert inside.info["validation_synthetic"]["types"] == [f"synthetic_{left}"]  # type: ignore[index]
        with pytest.raises(ConfigError, match="another"):
            add_synthetic(plain.data, SyntheticSpec(kind=failing))  # type: ignore[arg-type]

    def test_what_admits_no_anomaly_is_a_note(self, plain: Inputs) -> None:
        dark = replace(plain.data.val, pixels=np.zeros_like(plain.data.val.pixels), place=None)
        bare = replace(plain.data.train, pixels=np.zeros_like(plain.data.train.pixels), place=None)
        data = add_synthetic(replace(plain.data, val=dark, train=bare), "auto")
        assert data.made is None
        assert "no synthetic anomaly could be made" in data.info["notes"][-1]  # type: ignore[index]
