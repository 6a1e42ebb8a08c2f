"""Windows that suit the images, beside the first configuration of a study."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from align_parts import lies, photo, turned_dataset

import autosearch
from autosearch.data import Framing
from autosearch.data.likeness import Seen, likeness, likeness_of
from autosearch.data.records import NORMAL, ImageSet
from autosearch.spec.reading import load_spec, parse_spec
from autosearch.study.earlier import first_trials
from autosearch.study.inputs import Inputs, load_inputs
from autosearch.study.windows import first_windows

CONTENT: dict[str, Any] = {
    "study": {"runner": "patchcore", "name": "new"},
    "space": {
        "level3.patch_size": [1, 3],
        "window": [None, 1, 3],
        "bank_rows": {"int": [100, 400], "when": {"window": [None]}},
        "rows_per_place": {"int": [3, 30], "log": True, "when": {"window": [1, 3]}},
    },
    "start": {
        "windows": True,
        "configurations": [
            {"level3.patch_size": 3, "window": None, "bank_rows": 200},
            {"level3.patch_size": 1},
        ],
    },
    "objectives": ["gflops", "rwap"],
    "dataset": {"image_size": 64},
    "backbone": {"weights": "random"},
    "resources": {"gpu": 0},
}


def images(degrees: float, pixels: float) -> ImageSet:
    made = np.stack([photo(lie, i) for i, lie in enumerate(lies(12, 1, degrees, pixels))])
    none = np.zeros((len(made), *made.shape[2:]), dtype=bool)
    names = tuple(map(str, range(len(made))))
    return ImageSet(made, none, (NORMAL,) * len(made), names, names)


def with_images(own: ImageSet, **changes: Any) -> Inputs:
    inputs = load_inputs(parse_spec({**CONTENT, **changes}))
    return replace(inputs, data=replace(inputs.data, train=own))


def test_aligned_images_bring_small_windows() -> None:
    """They follow what is listed first, and what depends on them lies in the middle."""
    inputs = with_images(images(1, 0.5))
    found = first_windows(inputs)
    assert found is not None and found.text.endswith("worth trying; tried first: 1")
    assert list(found.configurations) == [
        {"level3.patch_size": 3, "window": 1, "rows_per_place": 9}
    ]
    begun = [one["params"] for one in first_trials(inputs, found.configurations)]
    listed = CONTENT["start"]["configurations"]
    assert begun == [listed[0], *found.configurations, listed[1]]


def test_images_that_lie_anyhow_bring_none() -> None:
    """The study begins with what is listed, and it is said why."""
    inputs = with_images(images(180, 25))
    found = first_windows(inputs)
    assert found is not None and found.configurations == ()
    assert "windows will hardly help" in found.text
    assert first_trials(inputs, found.configurations) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"start": {"configurations": CONTENT["start"]["configurations"]}},
        {"start": [{"level3.patch_size": 1}]},
        {"start": {"windows": True}},
        {"space": {"level3.patch_size": [1, 3]}, "start": {"windows": True}},
    ],
)
def test_nothing_is_looked_at_unasked(changes: dict[str, Any]) -> None:
    """Nor where there is nothing to begin with, or nothing to choose."""
    assert first_windows(with_images(images(1, 0.5), **changes)) is None


def test_likeness_of_loaded_images_is_that_of_the_files() -> None:
    """As `autosearch data check` finds it."""
    own = images(4, 3)
    framing = Framing(own.pixels.shape[2:])
    of_files = likeness([Seen.of(one, framing.view(one), framing) for one in own.pixels])
    loaded = likeness_of(own)
    assert of_files is not None and loaded is not None
    assert loaded.windows == of_files.windows
    assert loaded.shares == pytest.approx(of_files.shares, abs=0.02)


def test_a_search_says_what_it_found_and_tries_it(tmp_path: Path) -> None:
    """The line stands in the study's meta data, also after it went on."""
    turned_dataset(tmp_path / "part", 1, 0.5)
    data = {**CONTENT["dataset"], "root": str(tmp_path), "category": "part"}
    spec = {**CONTENT, "study": {**CONTENT["study"], "trials": 2}, "dataset": data}
    study = autosearch.search(spec, results=tmp_path / "results", executor="local")
    assert study.meta["alignment"].startswith("aligned")
    assert study.trials[1].params["window"] in (1, 3)
    study.resume(3, executor="local")
    assert study.meta["alignment"].startswith("aligned")
    assert study.trials[2].params["level3.patch_size"] == 1


@pytest.mark.parametrize("name", ["autopatch_plus", "backbones_plus"])
def test_bundled_spaces_ask_for_it(name: str) -> None:
    """Those that search windows."""
    spec = load_spec(autosearch.spaces()[name])
    assert spec.windows and len(spec.configurations) > 4
