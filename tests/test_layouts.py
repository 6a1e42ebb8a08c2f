"""Every layout: recognised by itself, and read as what was made."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import mark
from layout_samples import SAMPLES

from autosearch.data.index import Index
from autosearch.data.layouts.choose import LAYOUTS, only_category, open_index
from autosearch.data.originals import read_sample
from autosearch.spec.sections import DatasetSpec
from autosearch.testing import LayoutSuite

MARKED = [name for name, made in SAMPLES.items() if made.suite.get("marked", True)]


def spec(root: Path, **keys: object) -> DatasetSpec:
    given = {"name": "x", "root": str(root), "category": "part", "image_size": 32, **keys}
    return DatasetSpec.model_validate(given)


def layout_of(name: str) -> str:
    return name.partition(" ")[0]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What ``dataset.root`` is for each; no test changes anything in it."""
    return {name: made.build(tmp_path_factory.mktemp("made")) for name, made in SAMPLES.items()}


class TestLayouts(LayoutSuite):
    """The suite over all layouts, each with what it has of anomalous images and masks."""

    @pytest.fixture(params=SAMPLES)
    def name(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        for key, value in SAMPLES[request.param].suite.items():
            monkeypatch.setattr(type(self), key, value)
        return str(request.param)

    @pytest.fixture
    def index(self, name: str, roots: dict[str, Path]) -> Index:
        return open_index(spec(roots[name]))

    @pytest.fixture
    def counts(self, name: str) -> dict[str, int]:
        return SAMPLES[name].counts

    @pytest.fixture
    def dataset(self, name: str) -> DatasetSpec:
        anomalous = SAMPLES[name].suite.get("anomalous", True)
        keys = {} if anomalous else {"validation": {"synthetic": {}, "real_per_type": 0}}
        return DatasetSpec.model_validate(keys)

    def test_is_recognised(self, name: str, index: Index) -> None:
        assert index.layout == layout_of(name) and index.category == "part"
        assert not index.orphan_masks and not index.empty_folders

    def test_splits_are_stated(self, name: str, index: Index) -> None:
        assert Counter(sample.split for sample in index.samples) == SAMPLES[name].splits

    def test_may_be_named(self, name: str, index: Index, roots: dict[str, Path]) -> None:
        asked = open_index(spec(roots[name], layout=layout_of(name)))
        assert asked.samples == index.samples

    def test_needs_no_category(self, name: str, roots: dict[str, Path]) -> None:
        assert only_category(str(roots[name])) == "part"

    def test_the_folder_of_the_category_will_do(
        self, name: str, index: Index, roots: dict[str, Path]
    ) -> None:
        root = roots[name]
        if root.is_file():
            return
        other = root / "part" if (root / "part").is_dir() else root.parent
        if layout_of(name) == "flat":
            other, keys = root.parent, {"layout": "flat"}
        else:
            keys = {}
        again = open_index(spec(other, **keys))
        assert (again.samples, again.root) == (index.samples, index.root)

    def test_masks_are_what_was_painted(self, name: str, index: Index) -> None:
        for sample in (sample for sample in index.samples if sample.marked and not sample.normal):
            truth = read_sample(sample, DatasetSpec()).mask
            expected = mark() > 0
            if layout_of(name) == "mvtec_loco":
                expected[20:30, 20:30] = True
            np.testing.assert_array_equal(truth, expected)


def test_every_layout_has_a_sample() -> None:
    assert {layout_of(name) for name in SAMPLES} == set(LAYOUTS)
    allowed = DatasetSpec.model_json_schema()["properties"]["layout"]["enum"]
    assert allowed == ["auto", *allowed[1:]] and set(allowed[1:]) == set(LAYOUTS)
