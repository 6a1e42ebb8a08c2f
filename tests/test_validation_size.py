"""How much validation holds: normal images, and defects large enough to rank trials by."""

from pathlib import Path

import numpy as np
import pytest
from dataset_parts import checked, command, loaded, mask, photo, sound_dataset

from autosearch.cli.console import provenance
from autosearch.data import Sample
from autosearch.data.drawn import Drawn, drawn_text
from autosearch.data.index import Index
from autosearch.data.load import load_search_data
from autosearch.data.splits import split_index
from autosearch.errors import DataError
from autosearch.spec.reading import load_spec, parse_spec
from autosearch.spec.sections import DatasetSpec
from autosearch.storage.folder import YOUNGER

BESIDE = "fewer than 5 of some type, so synthetic ones are made for rwap_synthetic"


def index(train: int, test: int, stated: str | None = "test", val: int = 0) -> Index:
    names = [(f"a{i:04}", "good", None) for i in range(train)]
    names += [(f"b{i:04}", "good", "val") for i in range(val)]
    names += [(f"c{i:04}", "good", stated) for i in range(test)]
    names += [(f"d{i}", "pit", None) for i in range(3)]
    samples = tuple(Sample(Path("/d", n), (), k, s, n) for n, k, s in names)  # type: ignore[arg-type]
    return Index(Path("/d"), "c", samples)


def normals(found: Index, normal: object = "auto") -> tuple[int, int, int]:
    """Normal images for training, validation and test."""
    split = split_index(found, DatasetSpec(validation={"normal": normal, "real_per_type": 1}))
    return tuple(  # type: ignore[return-value]
        sum(sample.normal for sample in part) for part in (split.train, split.val, split.test)
    )


class TestNormals:
    @pytest.mark.parametrize(
        ("train", "test", "expected"),
        [(169, 97, 43), (54, 26, 14), (40, 10, 10), (400, 20, 20), (20, 15, 10), (19, 15, 5),
         (3, 2, 1), (2, 8, 1)],
    )  # fmt: skip
    def test_are_at_most_a_quarter(self, train: int, test: int, expected: int) -> None:
        assert normals(index(train, test)) == (train - expected, expected, test)

    def test_as_in_the_paper_by_name(self) -> None:
        for asked in ("as_test", None):
            assert normals(index(169, 97), asked) == (72, 97, 97)
        with pytest.raises(DataError, match="97 normal images are wanted"):
            normals(index(97, 97), "as_test")

    def test_stated_ones_count_and_stay(self) -> None:
        assert normals(index(30, 40, val=10)) == (30, 10, 40)
        assert normals(index(30, 40, val=14)) == (30, 14, 40)
        assert normals(index(33, 40, val=7)) == (30, 10, 40)

    @pytest.mark.parametrize("number", [25, 50, 60, 100])
    def test_a_fifth_where_no_test_image_is_stated(self, number: int) -> None:
        for asked in ("auto", "as_test"):
            fifth = number // 5
            assert normals(index(number, 0), asked) == (number - 2 * fifth, fifth, fifth)
        assert normals(index(number, 0), 3) == (number - 6, 3, 3)

    def test_are_never_more_than_500_unless_asked_for(self) -> None:
        assert normals(index(4000, 0)) == (2700, 500, 800)
        assert normals(index(4000, 0), "as_test") == (2400, 800, 800)

    def test_old_specs_keep_the_rule_of_the_paper(self, tmp_path: Path) -> None:
        spec = {"study": {"name": "a", "runner": "autopatch"}, "space": {}, "objectives": ["rwap"]}
        new = parse_spec({**spec, "space": {"width": 1.0}})
        assert new.dataset.validation.normal == "auto"
        old = {**new.model_dump(mode="json")}
        del old["dataset"]["validation"]["normal"]
        assert load_spec(old, younger=YOUNGER).dataset.validation.normal is None

    def test_are_told(self, tmp_path: Path) -> None:
        info = loaded(sound_dataset(tmp_path / "part")).info
        assert info["rule"] == (
            f"1 per anomaly type for validation; 2 of 13 normal images validate; {BESIDE}"
        )


class TestDefects:
    def test_are_told_by_type(self, tmp_path: Path) -> None:
        base = sound_dataset(tmp_path / "part")
        photo(base / "test/dent/0.png", 50)
        asked = {"real_per_type": 2}
        data = loaded(base, validation=asked)
        first, second = (int(m.sum()) for m in data.val.masks[data.val.labels][1:])
        assert data.val.masks[data.val.labels].sum(axis=(1, 2))[0] == 0, "the dent has no mask"
        low, high = sorted((first, second))
        between = f"of {low} to {high} pixels" if low < high else f"of {low} pixels"
        text = (
            f"dent 1 image without mask (part/test/dent/0.png); hole 2 images {between} "
            "(first part/test/hole/000.png); measured at 32 x 40 px (height x width)"
        )
        alone = {**asked, "synthetic": None}
        assert checked(base, validation=alone).defects == text
        assert checked(base, validation=asked).defects == f"{text}; {BESIDE}"
        assert f"defects  {text}" in list(provenance({"data": data.info}))
        assert data.info["weak"] == []

    def test_are_measured_at_the_evaluation_size(self, tmp_path: Path) -> None:
        base = sound_dataset(tmp_path / "part")
        sizes = {"image_size": 32, "evaluation_size": 64, "fit": "stretch"}
        drawn = loaded(base, **sizes).info["defects"]
        small = loaded(base, image_size=32, fit="stretch").info["defects"]
        assert drawn["hole"]["largest"] == pytest.approx(4 * small["hole"]["largest"], rel=0.2)  # type: ignore[index]
        assert "measured at 64 px" in checked(base, **sizes).defects

    def test_that_are_tiny_are_a_warning(self, tmp_path: Path) -> None:
        base = sound_dataset(tmp_path / "part")
        speck = np.zeros((40, 50), dtype=np.uint8)
        speck[4:6, 4:6] = 255
        mask(base / "ground_truth/hole/000_mask.png", speck)
        few, tiny = loaded(base).info["weak"]  # type: ignore[misc]
        assert few.startswith("validation holds fewer than 3 anomalous images (1 in all); raise ")
        assert "fewer than 10 pixels in all at 32 x 40 px" in tiny and "hole, 4 in 1" in tiny
        for key in ("image_size", "validation.real_per_type", "validation.synthetic"):
            assert f"dataset.{key}" in tiny and "split column of a CSV file" in tiny
        report = checked(base)
        told = [problem.problem for problem in report.problems]
        assert few.partition(";")[0] in told and report.usable
        assert any("fewer than 10 pixels in all" in text for text in told)
        larger = loaded(base, image_size={"short": 96}).info["weak"]
        assert len(larger) == 1, "more pixels there"  # type: ignore[arg-type]
        measured = loaded(base, image_size=64, evaluation_size=32).info["weak"]
        assert "raise dataset.evaluation_size" in measured[1]  # type: ignore[index]

    def test_of_which_there_are_few_are_a_warning(self, tmp_path: Path) -> None:
        base = sound_dataset(tmp_path / "part")
        assert len(loaded(base).info["weak"]) == 1  # type: ignore[arg-type]
        for enough in ({"real_per_type": 3}, {"synthetic": {}}):
            assert loaded(base, validation=enough).info["weak"] == []
            told = [p.problem for p in checked(base, validation=enough).problems]
            assert not any("fewer than 3 anomalous" in text for text in told)
        (made,) = loaded(base, validation={"synthetic": {}, "real_per_type": 0, "normal": 1}).info[
            "weak"
        ]  # type: ignore[misc]
        assert "(2 in all)" in made and "raise dataset.validation.synthetic.per_image" in made

    def test_are_shown_by_data_check(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sound_dataset(tmp_path / "part")
        code, out = command(capsys, "data", "check", tmp_path, "part")
        assert code == 0 and "validation draws hole 1 image of" in out
        assert "warning" in out and "validation holds fewer than 3 anomalous images" in out

    def test_of_none_are_not_told(self) -> None:
        assert Drawn.of([]) == {} and drawn_text({}, "32 px") == ""

    def test_of_real_tiles(self, shared_data: Path) -> None:
        dataset = DatasetSpec(
            root=str(shared_data / "magnetic_tile"),
            category="magnetic_tile_mini",
            image_size=64,
            fit="stretch",
        )
        data = load_search_data(dataset)
        drawn = data.info["defects"]
        assert list(drawn) == ["blowhole", "break", "crack", "fray", "uneven"]  # type: ignore[call-overload]
        for kind, one in drawn.items():  # type: ignore[attr-defined]
            chosen = [i for i, its in enumerate(data.val.types) if its == kind]
            pixels = [int(data.val.masks[i].sum()) for i in chosen]
            assert (one["smallest"], one["largest"]) == (min(pixels), max(pixels))
            assert one["first"] == data.val.paths[chosen[0]]
        assert data.info["weak"] == [] or "fewer than 10 pixels" in str(data.info["weak"])
