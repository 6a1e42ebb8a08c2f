"""``study.fit_images``: a search on a part of the normal images, and models of all of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from final_parts import search_in

import autosearch
from autosearch.data import load_search_data, load_test_set
from autosearch.errors import ConfigError, StudyError
from autosearch.spec.reading import load_spec, parse_spec
from autosearch.storage.folder import StudyFolder
from autosearch.study import forecast as foretelling
from autosearch.study.fitted import all_normal, in_part
from autosearch.study.inputs import load_inputs, rebuild, reopen
from autosearch.study.truth import maps_of

PART = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search_in(tmp_path_factory.mktemp("made"), fit_images=PART).path


@pytest.fixture(scope="module")
def study(made: Path) -> autosearch.Study:
    return autosearch.open_study(made)


class TestSearch:
    def test_is_on_a_part_that_is_spread_evenly(self, made: Path) -> None:
        inputs = reopen(StudyFolder(made))
        whole = load_search_data(inputs.spec.dataset).train
        places = [whole.paths.index(path) for path in inputs.data.train.paths]
        assert places == [0, len(whole) // 3, 2 * len(whole) // 3]
        assert np.array_equal(inputs.data.train.pixels, whole.pixels[places])
        counts = inputs.data.info["counts"]
        assert counts["train"] == {"good": len(whole)}  # type: ignore[index]
        (note,) = [one for one in inputs.data.info["notes"] if "fit_images" in one]  # type: ignore
        assert note == (
            f"trials are fitted on 3 of {len(whole)} normal images (study.fit_images), what is "
            "evaluated or exported on all"
        )

    def test_records_what_the_part_gives(self, made: Path, study: autosearch.Study) -> None:
        inputs = reopen(StudyFolder(made))
        whole = inputs.data.whole
        assert whole is not None
        rows = []
        for images in (inputs.data.train, whole):
            detector = rebuild(inputs, study.trial(0))
            detector.fit(images)
            rows.append(detector.cost().bank_bytes)
        assert rows[0] / rows[1] == pytest.approx(PART / len(whole), rel=0.02)
        found = study.evaluate([0], resamples=50)[0]
        assert found["validation"]["reproduced"], "by a detector of the part"

    def test_needs_no_part_where_there_are_few(self, made: Path) -> None:
        data = load_search_data(StudyFolder(made).load_spec().dataset)
        assert in_part(data, len(data.train), False) is data
        assert in_part(data, None, True) is data
        with pytest.raises(ConfigError, match=r"study\.fit_images: 3 .* null, since the runner"):
            in_part(data, 3, True)

    def test_goes_on_with_the_same_part_alone(self, made: Path) -> None:
        spec = StudyFolder(made).load_spec(["study.fit_images=4"])
        with pytest.raises((ConfigError, StudyError), match=r"fit_images"):
            autosearch.search(
                spec.model_dump(mode="json"), name="study", results=made.parent, resume=True
            )


class TestModels:
    def test_are_fitted_on_all(self, study: autosearch.Study, made: Path) -> None:
        inputs = reopen(StudyFolder(made))
        everything = all_normal(inputs.data)
        assert len(set(everything.paths)) == len(everything) == 10
        found = study.evaluate([0], resamples=50)[0]
        assert found["fitted_on"] == 10
        detector = rebuild(inputs, study.trial(0))
        detector.fit(everything)
        test, _ = load_test_set(inputs.spec.dataset)
        part = rebuild(inputs, study.trial(0))
        part.fit(inputs.data.train)
        assert not np.allclose(maps_of(detector, test), maps_of(part, test))
        assert study.evaluate([0], resamples=50, fit="train")[0]["fitted_on"] == PART

    def test_say_so(self, study: autosearch.Study) -> None:
        folder = study.export(0, formats=["torch"])
        fit = json.loads((folder / "model.json").read_text())["fit"]
        whole = fit["train"]
        assert fit["images"] == whole + fit["validation_normal"] == 10 and fit["searched"] == PART
        card = (folder / "README.md").read_text()
        assert f"with a detector fitted on 3 of the {whole} alone" in " ".join(card.split())


def test_no_number_below_one_is_taken() -> None:
    content = {"study": {"name": "x", "runner": "autopatch", "fit_images": 0}}
    content |= {"space": {"width": 1.0}, "objectives": ["rwap"]}
    with pytest.raises(ConfigError, match=r"study\.fit_images"):
        load_inputs(parse_spec(content))


def test_forecast_counts_all_pictures_and_fits_the_part(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foretelling, "LARGE", 0)
    given = StudyFolder(made).load_spec().model_dump(mode="json")
    found = [
        load_inputs(load_spec(given, [f"study.fit_images={number}"])).memory()
        for number in ("null", "1")
    ]
    assert found[0] is not None and found[1] is not None
    assert found[0]["pictures"] == found[1]["pictures"]
    assert found[0]["trial"] > found[1]["trial"]
