"""Several categories in one model: how they are named, read, split, checked and measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_parts import loaded, mask, photo, sound_dataset, spec
from final_parts import SIDE, _write_part
from rich.console import Console

from autosearch import api
from autosearch.api.moved import moved_to
from autosearch.cli.category_view import category_tables
from autosearch.data import (
    NORMAL,
    categories_of,
    load_search_data,
    load_test_set,
    open_index,
    settled,
    split_index,
)
from autosearch.errors import ConfigError, DataError
from autosearch.executors.local import LocalExecutor
from autosearch.metrics import Ranking, auroc, image_scores
from autosearch.report.info import study_info
from autosearch.spec import DatasetSpec, dataset_spec, load_spec, parse_spec
from autosearch.storage.folder import StudyFolder
from autosearch.study import session
from autosearch.study.final import FinalEvaluator
from autosearch.study.inputs import load_inputs, rebuild
from autosearch.study.subsets import Subsets, strata_of
from autosearch.study.truth import maps_of, truth_of
from autosearch.synthesis import add_synthetic

BOTH = ["part", "plate"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Category ``part`` as MVTec AD has it, ``plate`` of another layout and other types."""
    sound_dataset(tmp_path / "part")
    for i in range(20):
        photo(tmp_path / f"plate/ok/{i:03}.png", 100 + i, (44, 44))
    for i in range(4):
        photo(tmp_path / f"plate/nok/hole/{i:03}.png", 200 + i, (44, 44))
        photo(tmp_path / f"plate/nok/dent/{i:03}.png", 300 + i, (44, 44))
        mask(tmp_path / f"plate/masks/hole/{i:03}.png", np.eye(44, dtype=np.uint8) * 255)
        mask(tmp_path / f"plate/masks/dent/{i:03}.png", np.eye(44, dtype=np.uint8) * 255)
    return tmp_path


def both(root: Path, **keys: object) -> DatasetSpec:
    return spec(root, **{"category": BOTH, "image_size": 32, **keys})


class TestSpec:
    def test_a_list_is_several_and_of_one_that_one(self) -> None:
        assert dataset_spec([("category", BOTH)]).category == ("part", "plate")
        assert dataset_spec([("category", ["part"])]).category == "part"
        assert dataset_spec(["category=[part, plate]"]).categories == ("part", "plate")
        assert dataset_spec(["category=01"]).categories == ("01",)

    def test_survives_yaml(self, tmp_path: Path) -> None:
        found = load_spec(api.spaces()["autopatch"], ["dataset.category=[part, plate]"])
        (tmp_path / "again.yaml").write_text(found.to_yaml())
        assert load_spec(tmp_path / "again.yaml", ["study.name=autopatch"]) == found
        assert found.content_hash() == load_spec(api.spaces()["autopatch"]).content_hash()

    def test_images_that_were_moved_may_be_of_several(self, tmp_path: Path) -> None:
        for given, expected in (("[part, plate]", ("part", "plate")), ("01", "01")):
            assert dataset_spec(moved_to(tmp_path, given)).category == expected

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("[]", "the list is empty"),
            ("[part, part]", "each name once"),
            ("[part, plate/left]", "hold no /"),
            ('[part, ""]', "not empty"),
            ("[part, 01]", 'quote what looks like something else: category: "01"'),
        ],
    )
    def test_what_names_no_categories_is_refused(self, given: str, said: str) -> None:
        with pytest.raises(ConfigError, match=rf"dataset\.category: .*{said}"):
            dataset_spec([f"category={given}"])


class TestIndex:
    def test_each_is_split_as_if_alone(self, root: Path) -> None:
        dataset = both(root, validation={"real_per_type": 2})
        found = split_index(open_index(dataset), dataset)
        alone = [
            split_index(open_index(one), one)
            for one in (dataset.model_copy(update={"category": name}) for name in BOTH)
        ]
        for part, *parts in zip(found.parts, *(one.parts for one in alone), strict=True):
            assert [s.path for s in part] == sorted(s.path for own in parts for s in own)
        counted = {s.type for s in found.val}
        assert counted == {NORMAL, "part/hole", "plate/hole", "plate/dent"}
        assert {s.group.partition("/")[0] for s in found.val} == set(BOTH)

    def test_order_makes_no_difference(self, root: Path) -> None:
        one, other = (load_search_data(both(root, category=names)) for names in (BOTH, BOTH[::-1]))
        assert one.info["sha256"] == other.info["sha256"] and one.files == other.files
        assert np.array_equal(one.val.pixels, other.val.pixels)

    def test_one_name_is_what_it_was(self, root: Path) -> None:
        data = loaded(root / "part")
        assert data.info["category"] == "part" and "categories" not in data.info
        assert set(data.val.types) == {NORMAL, "hole"}
        assert data.val.groups[0].startswith("part/train/good"), "no name in front"

    def test_of_one_csv_file(self, tmp_path: Path) -> None:
        rows = []
        for i in range(48):
            photo(tmp_path / f"{i:02}.png", i)
            bad = i % 8 == 0
            rows.append([f"{i:02}.png", int(bad), "cut" if bad else "", "ab"[i % 16 // 8], i // 2])
        with (tmp_path / "all.csv").open("w") as file:
            columns = ["path", "label", "type", "category", "group"]
            csv.writer(file).writerows([columns, *rows])
        dataset = both(tmp_path / "all.csv", category=["a", "b"])
        index = open_index(dataset)
        assert [part.category for part in index.parts] == ["a", "b"] and index.root == tmp_path
        split = split_index(index, dataset)
        assert {s.type for s in split.val} == {NORMAL, "a/cut", "b/cut"}
        parts = [{s.group for s in part} for part in split.parts if part]
        assert sum(map(len, parts)) == len(set.union(*parts)), "groups stay together"

    def test_what_is_not_there_is_named(self, root: Path) -> None:
        with pytest.raises(ConfigError, match=r"dataset\.category: 'plat' .* one of part, plate"):
            open_index(both(root, category=["part", "plat"]))
        with pytest.raises(DataError, match=r"is a category itself; .*root to the folder"):
            open_index(both(root / "part"))
        with pytest.raises(ConfigError, match="has part for more than one of them"):
            open_index(both(root / "part", category=["part", "brick"]))

    def test_an_image_of_two_is_refused(self, tmp_path: Path) -> None:
        photo(tmp_path / "0.png")
        (tmp_path / "all.csv").write_text("path,label,category\n0.png,0,a\n./0.png,0,b\n")
        with pytest.raises(DataError, match=r"0\.png: is an image of both a and b"):
            open_index(both(tmp_path / "all.csv", category=["a", "b"]))

    def test_each_must_have_what_it_needs(self, root: Path) -> None:
        for path in (root / "plate/nok").rglob("*.png"):
            path.unlink()
        with pytest.raises(DataError, match="plate: validation holds no anomalous image"):
            load_search_data(both(root))
        for folder in ("plate/masks", "part/test/hole", "part/ground_truth"):
            for path in (root / folder).rglob("*.png"):
                path.unlink()
        dataset = settled(open_index(both(root)), both(root))
        assert dataset.validation.real_per_type == 0, "none has: they are made"


class TestData:
    def test_is_read_once_on_one_canvas(self, root: Path) -> None:
        data = load_search_data(both(root, image_size={"short": 32}, preprocess="none"))
        assert (data.info["category"], data.info["categories"]) == ("part, plate", BOTH)
        assert list(data.info["defects"]) == ["part/hole", "plate/dent", "plate/hole"]  # type: ignore[call-overload]
        assert len({image.shape for image in data.train.pixels}) == 1
        owners = set(zip(categories_of(data.train.groups), data.train.paths, strict=True))
        assert all(path.startswith(owner) for owner, path in owners)
        test, info = load_test_set(both(root))
        assert info["counts"] == {NORMAL: 2 + 4, "part/hole": 2, "plate/dent": 3, "plate/hole": 3}
        assert len(test) == 14

    def test_a_test_split_must_be_there_for_each(self, tmp_path: Path) -> None:
        rows = ["path,label,category,split"]
        for i in range(30):
            photo(tmp_path / f"{i:02}.png", i)
            stated = ("val" if i % 5 == 0 else "train") if i < 15 else ""
            rows.append(f"{i:02}.png,{int(i % 10 == 0 or i == 25)},{'ab'[i // 15]},{stated}")
        (tmp_path / "all.csv").write_text("\n".join(rows))
        assert load_search_data(both(tmp_path / "all.csv", category=["a", "b"])).val.labels.any()
        with pytest.raises(DataError, match="a: the test split is empty"):
            load_test_set(both(tmp_path / "all.csv", category=["a", "b"]))

    def test_there_is_no_pose_of_several(self, root: Path) -> None:
        with pytest.raises(ConfigError, match=r"preprocess: 'align' .* have no common pose"):
            load_search_data(both(root, preprocess="align"))

    def test_made_anomalies_are_of_their_category(self, root: Path) -> None:
        made = {"synthetic": {"kind": "perlin", "per_image": 1}}
        dataset = both(root, validation=made)
        data = add_synthetic(load_search_data(dataset), dataset.validation.synthetic)
        kinds = {kind for kind in data.val.types if "synthetic" in kind}
        assert kinds == {"part/synthetic_perlin", "plate/synthetic_perlin"}
        counts: Any = data.info["counts"]
        assert sum(counts["val"].values()) == len(data.val)
        for kind, group in zip(data.val.types, data.val.groups, strict=True):
            assert kind == NORMAL or kind.partition("/")[0] == group.partition("/")[0]

    def test_check_tells_of_all(self, root: Path) -> None:
        for given in ("[part, plate]", None):
            more = ["image_size=32"] if given else ["category=[part, plate]", "image_size=32"]
            report = api.check_data(root, given, more)
            assert report.usable and report.category == "part, plate"
            assert set(report.regions) == {"part/hole", "plate/dent", "plate/hole"}
        photo(root / "part/test/cut/0.png")
        problems = [p.problem for p in api.check_data(root, "[part, plate]").problems]
        assert any(text.startswith("type part/cut has no image in the test") for text in problems)

    def test_they_are_converted_one_by_one(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="one at a time to convert"):
            api.convert_data(root, "[part, plate]", to="csv", out=tmp_path / "new")


def test_subsets_of_a_test_split(root: Path) -> None:
    test, _ = load_test_set(both(root))
    copies = np.ones((3, len(test)))
    found = Subsets.of(test, copies, several=True)
    owners = np.array(categories_of(test.groups))
    for name, part in found.categories.items():
        assert np.array_equal(part.indices, np.flatnonzero(owners == name))
    dents = found.types["plate/dent"]
    assert set(dents.types) == {NORMAL, "plate/dent"} and (owners[dents.indices] == "plate").all()
    kinds = {"part/good", "plate/good", "part/hole", "plate/dent", "plate/hole"}
    assert set(strata_of(test, several=True)) == kinds
    assert strata_of(test, several=False) == test.types
    alone = Subsets.of(test, copies, several=False)
    assert not alone.categories and len(alone.whole.indices) == len(test)
    assert len(alone.types["plate/dent"].indices) == 6 + 3, "all normal images"


def test_a_study_of_two(tmp_path: Path) -> None:
    """Figures of a category are those of its images alone, with the maps of the one detector."""
    for name in BOTH:
        _write_part(tmp_path / "data" / name)
    dataset = {"root": str(tmp_path / "data"), "category": BOTH, "image_size": SIDE}
    content = {
        "study": {"name": "study", "runner": "autopatch", "trials": 1},
        "space": {"stage1.extraction_block": [5], "width": 1.0, "coreset_ratio": 0.2},
        "objectives": ["rwap"],
        "backbone": {"weights": "random"},
        "dataset": dataset,
    }
    inputs, folder = load_inputs(parse_spec(content)), StudyFolder(tmp_path / "study")
    session.run(inputs, folder, session.open_driver(inputs, folder), LocalExecutor())
    record = folder.trials.records()[0]
    test, info = load_test_set(inputs.spec.dataset)
    figures = FinalEvaluator(inputs, test, info, 20, "train")(record).figures
    assert list(figures["categories"]) == BOTH
    assert set(figures["types"]) == {f"{c}/{kind}" for c in BOTH for kind in ("hole", "dent")}
    detector = rebuild(inputs, record)
    detector.fit(inputs.data.train)
    maps = maps_of(detector, test)
    for name, part in figures["categories"].items():
        own = np.array(categories_of(test.groups)) == name
        truth = truth_of(test, np.flatnonzero(own))
        ranking = Ranking.from_maps(maps[own], truth)
        expected = {
            "rwap": ranking.rwap(),
            "ap": ranking.ap(),
            "aupro": ranking.aupro(),
            "image_auroc": auroc(image_scores(maps[own]), truth.labels),
        }
        assert {key: part["metrics"][key] for key in expected} == pytest.approx(expected)
        assert (part["images"], part["normal"]) == (int(truth.labels.sum()), 3)
    folder.files.write_test(0, figures)
    told = study_info(folder)["tests"]["0"]["categories"]
    assert {name: one["rwap"] for name, one in told.items()} == pytest.approx(
        {name: part["metrics"]["rwap"] for name, part in figures["categories"].items()}, rel=1e-5
    )


def test_rows_of_categories() -> None:
    def figures(value: float | None) -> dict[str, Any]:
        return {"images": 3, "normal": 2, "metrics": {"ap": value, "image_auroc": 0.5}}

    one = {**figures(0.3), "categories": {"a": figures(0.25), "b": figures(0.75)}}
    assert shown(category_tables([("trial 0", one)])) == [
        ["a", "2", "+", "3", "0.5000", "0.2500"],
        ["b", "2", "+", "3", "0.5000", "0.7500"],
        ["(mean)", "-", "0.5000", "0.5000"],
        ["(all)", "-", "0.5000", "0.3000"],
    ]
    missing = {**one, "categories": {"a": figures(None), "b": figures(0.75)}}
    rows = shown(category_tables([("0", missing), ("1", one), ("2", {"metrics": {}})]))
    assert rows[2] == ["0", "(mean)", "-", "0.5000", "-"] and len(rows) == 8
    assert not list(category_tables([("trial 0", {"metrics": {}, "categories": {}})]))


def shown(parts: Iterable[Any]) -> list[list[str]]:
    """Cells of the rows that are printed, the heading left out."""
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*parts, sep="\n")
    lines = [line.split() for line in console.export_text().splitlines()]
    return [line for line in lines if any(cell[:2] in ("0.", "1.") for cell in line)]
