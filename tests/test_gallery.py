"""The gallery of a trial: figures at the chosen thresholds, steps that lose nothing, the page."""

import base64
import dataclasses
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_parts import command
from final_parts import search_in
from PIL import Image
from report_parts import wait_until
from sklearn.metrics import confusion_matrix

import autosearch
from autosearch.data.records import ImageSet
from autosearch.metrics import Truth, choose_threshold, decide
from autosearch.report.gallery import gallery_data, worst_first
from autosearch.report.gallery_page import write_gallery
from autosearch.report.levels import Cuts, Levels, largest_in_cells, levels_of
from autosearch.storage.folder import StudyFolder
from autosearch.study.answer import Answer
from autosearch.study.calibration import thresholds_of

ODD = "part/<img src=x onerror=alert(1)></script>.png"


def an_answer(number: int = 10, side: int = 40, split: Any = "validation") -> Answer:
    """Maps in which defects stand out on average; the first image has a name full of markup."""
    draw = np.random.default_rng(3)
    types = tuple(["crack", "hole", "good"][i % 3] for i in range(number))
    masks = np.zeros((number, side, side), dtype=bool)
    maps = draw.gamma(2.0, 1.0, masks.shape).astype(np.float32)
    for i, kind in enumerate(types):
        if kind != "good":
            masks[i, 5:9, 10:20] = True
            maps[i, 5:9, 10:20] += draw.uniform(0, 6)
    names = (ODD, *(f"part/{kind}/{i:03}.png" for i, kind in enumerate(types) if i))
    pixels = draw.random((number, 3, side, side), dtype=np.float32)
    images = ImageSet(pixels, masks, types, names, names)
    truth = Truth.from_masks(masks, types)
    scores = maps.max(axis=(1, 2))
    return Answer(split, images, truth, maps, scores, thresholds_of(maps, truth), 7, 0.0, True)


def counted(data: dict[str, Any]) -> dict[str, list[int]]:
    """TN, FP, FN, TP of images and pixels at the start, as a page has them."""
    cut = data["image"]["cuts"][data["image"]["start"]]
    labels = [one["type"] != data["normal"] for one in data["images"]]
    called = [one["score"] >= cut for one in data["images"]]
    images = confusion_matrix(labels, called, labels=[False, True]).ravel().tolist()
    level = data["pixel"]["start"]
    fn, tp, tn, fp = 0, 0, 0, 0
    for own in data["pixel"]["counts"].values():
        fn += own["anomalous"][0] - own["anomalous"][level]
        tp += own["anomalous"][level]
        tn += own["normal"][0] - own["normal"][level]
        fp += own["normal"][level]
    return {"images": images, "pixels": [tn, fp, fn, tp]}


class TestSteps:
    def test_a_level_says_what_the_score_says(self) -> None:
        answer = an_answer()
        threshold = answer.thresholds.pixel.value
        levels = Levels.of(answer.maps, answer.truth, threshold)
        assert len(levels.edges) <= 255 and levels.edges[levels.start - 1] == threshold
        maps = answer.maps.astype(np.float64)
        found = levels_of(answer.maps, levels.edges)
        for k, edge in enumerate(levels.edges, 1):
            assert np.array_equal(found >= k, maps >= edge)
        for kind, own in levels.counts.items():
            of = np.array([one == kind for one in answer.images.types])
            masks, scores = answer.truth.masks[of], maps[of]
            for k in (0, 1, levels.start, len(levels.edges)):
                above = scores >= (levels.edges[k - 1] if k else -np.inf)
                assert own["anomalous"][k] == (above & masks).sum()
                assert own["normal"][k] == (above & ~masks).sum()

    def test_pixels_that_do_not_count_are_in_no_count(self) -> None:
        answer = an_answer()
        counts = np.ones(answer.maps.shape, dtype=bool)
        counts[:, 30:] = False
        truth = Truth.from_masks(answer.truth.masks, answer.images.types, counted=counts)
        levels = Levels.of(answer.maps, truth, 4.0)
        total = sum(int(own[name][0]) for own in levels.counts.values() for name in own)
        assert total == 10 * 30 * 40

    def test_cuts_part_the_scores_in_every_way(self) -> None:
        scores = np.array([0.5, 3.0, 1.0, 1.0, 2.0], dtype=np.float32)
        cuts = Cuts.of(scores, 1.7)
        assert cuts.values[cuts.start] == 1.7
        assert [(scores >= cut).sum() for cut in cuts.values] == [5, 4, 2, 1, 0]
        assert Cuts.of(scores, 9.0).values[-1] == 9.0
        assert Cuts.of(scores, 0.1).values[0] == 0.1
        close = np.array([1.0, np.nextafter(1.0, 2.0)])
        assert [(close >= cut).sum() for cut in Cuts.of(close, 5.0).values] == [2, 1, 0]

    def test_a_cell_has_its_largest_value(self) -> None:
        values = np.random.default_rng(0).integers(0, 255, (37, 50), dtype=np.uint8)
        small = largest_in_cells(values, 20)
        assert small.shape == (15, 20) and small.max() == values.max()
        for y in range(15):
            for x in range(20):
                rows = slice(y * 37 // 15, (y + 1) * 37 // 15)
                columns = slice(x * 50 // 20, (x + 1) * 50 // 20)
                assert small[y, x] == values[rows, columns].max()
        assert np.array_equal(largest_in_cells(values, 50), values)


def test_the_worst_come_first() -> None:
    scores = np.array([0.1, 0.9, 0.8, 0.3, 0.6, 0.2])
    labels = np.array([True, False, True, True, False, False])
    # At 0.5: misses 0 and 3, false alarms 1 and 4; right are 2 and 5.
    assert worst_first(scores, labels, scores >= 0.5) == [0, 1, 3, 4, 2, 5]
    assert worst_first(scores, labels, scores >= 0.0) == [1, 4, 5, 0, 3, 2]


class TestData:
    def test_figures_are_those_of_metrics(self) -> None:
        answer = an_answer()
        found = counted(gallery_data(answer))
        labels = answer.images.labels
        image = choose_threshold(answer.scores, labels)
        assert found["images"] == [
            getattr(image.reached, name) for name in ("tn", "fp", "fn", "tp")
        ]
        called = decide(answer.maps, answer.thresholds.pixel)
        expected = confusion_matrix(answer.truth.masks.ravel(), called.ravel()).ravel()
        assert found["pixels"] == expected.tolist()

    def test_pictures_hold_levels_and_truth(self) -> None:
        answer = an_answer()
        data = gallery_data(answer)
        edges = np.array(data["pixel"]["edges"])
        assert data["pixel"]["high"] == answer.maps.max()
        places = {name: i for i, name in enumerate(answer.images.paths)}
        for one in data["images"]:
            i = places[one["name"]]
            levels = picture(one["map"])
            assert np.array_equal(levels, levels_of(answer.maps[i], edges))
            assert one["top"] == levels.max() and one["score"] == answer.scores[i]
            if one["type"] == "good":
                assert one["truth"] is None
            else:
                assert np.array_equal(picture(one["truth"]) == 255, answer.truth.masks[i])

    def test_what_is_not_scored_is_told(self) -> None:
        answer = an_answer()
        valid = np.ones(answer.maps.shape, dtype=bool)
        valid[:, :, 35:] = False
        images = dataclasses.replace(answer.images, valid=valid)
        data = gallery_data(dataclasses.replace(answer, images=images))
        for one in data["images"]:
            assert np.array_equal(picture(one["truth"])[0] == 128, np.arange(40) >= 35)

    def test_pictures_keep_to_the_room_and_the_page_says_so(self, tmp_path: Path) -> None:
        answer = an_answer()
        whole = gallery_data(answer)["images"]
        room = 3 * len(whole[0]["photo"] + whole[0]["map"])
        data = gallery_data(answer, room)
        kept = [one for one in data["images"] if "photo" in one]
        taken = sum(len(one[name] or "") for one in kept for name in ("photo", "map", "truth"))
        assert 0 < len(kept) < len(whole) and taken <= room
        assert kept == data["images"][: len(kept)]
        assert counted(data) == counted(gallery_data(answer))

        path = write_gallery(answer, "small", "trial 0", tmp_path / "small.html", room)
        notes = of_page(path)["about"]["notes"]
        assert f"{len(whole) - len(kept)} of 10 images have no picture here" in notes[0]
        assert "40 pixels wide and 40 high" in notes[-1]
        every = write_gallery(answer, "whole", "trial 0", tmp_path / "whole.html")
        assert not any("no picture" in note for note in of_page(every)["about"]["notes"])


def picture(uri: str) -> np.ndarray:
    content = base64.b64decode(uri.partition(",")[2])
    return np.array(Image.open(io.BytesIO(content)))


def of_page(path: Path) -> dict[str, Any]:
    """The data that a page holds."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>',
                         path.read_text("utf-8"))  # fmt: skip
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return search_in(tmp_path_factory.mktemp("made"))


class TestStudy:
    def test_test_figures_are_those_of_evaluate(self, study: StudyFolder) -> None:
        opened = autosearch.open_study(study.path)
        told: list[str] = []
        path = opened.gallery(0, split="test", progress=lambda update: told.append(update.text))
        assert path == study.path / "galleries" / "trial-0-test.html"
        assert any(text.startswith("fitting on all") for text in told)
        kept = opened.evaluate([0], resamples=100)[0]
        found = counted(of_page(path))
        tn, fp, fn, tp = found["images"]
        assert tp / (tp + fn) == kept["metrics"]["image_tpr_at_val"]
        assert fp / (fp + tn) == kept["metrics"]["image_fpr_at_val"]
        _, fp, fn, tp = found["pixels"]
        assert 2 * tp / (2 * tp + fp + fn) == kept["metrics"]["pixel_f1_at_val"]
        counts = Counter(one["type"] for one in of_page(path)["images"])
        assert counts == {kind: n for kind, n in kept["data"]["counts"].items() if n}

    def test_the_command_begins_where_the_rule_chose(
        self, study: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "seen.html"
        code, said = command(
            capsys, "gallery", study.path, "--trial", 0, "--out", out,
            "--threshold-rule", "fpr", "--max-fpr", 0,
        )  # fmt: skip
        assert code == 0 and str(out) in said
        data = of_page(out)
        _, fp, _, _ = counted(data)["images"]
        assert fp == 0 and "false-positive rate of at most 0" in data["about"]["rule"]
        assert data["about"]["split"] == "validation"
        counts = Counter(one["type"] for one in data["images"])
        assert counts == study.load_meta()["data"]["counts"]["val"]

    def test_what_cannot_be_is_refused(
        self, study: StudyFolder, tmp_path: Path, refused: Callable[..., str]
    ) -> None:
        assert "--out" in refused(tmp_path, "gallery", study.path, "--trial", 0, "--out", tmp_path)
        assert "max_fpr" in refused(
            study.path, "gallery", study.path, "--trial", 0, "--threshold", "fpr"
        )
        with pytest.raises(autosearch.errors.ConfigError, match="validation or test"):
            autosearch.open_study(study.path).gallery(0, split="train")  # type: ignore[arg-type]


COUNTS = """
return Object.fromEntries([...document.querySelectorAll("td[data-count] b")].map((one, i) =>
  [(i < 4 ? "image " : "pixel ") + one.parentElement.dataset.count,
   Number(one.textContent.replaceAll(",", ""))]));
"""
MOVE = """
const range = document.getElementById(arguments[0]);
range.value = arguments[1];
range.dispatchEvent(new Event("input"));
"""
ORANGE = """
const canvas = document.querySelector(".grid canvas");
if (!canvas.width) return -1;
const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
let found = 0;
for (let i = 0; i < data.length; i += 4) found += data[i] > 250 && data[i + 1] < 110;
return found / canvas.width / canvas.height;
"""


def names(browser: Any) -> list[str]:
    script = "return [...document.querySelectorAll('.grid .name')].map((one) => one.textContent)"
    found: list[str] = browser.execute_script(script)
    return found


@pytest.fixture(scope="module")
def answer() -> Answer:
    return an_answer(split="test")


@pytest.fixture(scope="module")
def written(answer: Answer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "gallery.html"
    return write_gallery(answer, "<b>odd</b>", "trial 3", out)


class TestPage:
    def test_sliders_change_counts_masks_and_order(
        self, browser: Any, written: Path, answer: Answer
    ) -> None:
        data = gallery_data(answer)
        browser.get(written.as_uri())
        palette = "return autosearchGallery.draw.palette({edges: [1, 2, 99], low: 1, high: 2})"
        # A threshold above all scores darkens no map.
        assert browser.execute_script(palette)[2] == browser.execute_script(palette)[3]
        first = [one["name"] for one in data["images"]]
        assert names(browser) == [name.removeprefix("part/") for name in first]
        assert not browser.find_element("css selector", ".moved").is_displayed()
        labels = answer.images.labels
        for cut, level in ((data["image"]["start"], data["pixel"]["start"]), (2, 40), (9, 200)):
            browser.execute_script(MOVE, "page-image", cut)
            browser.execute_script(MOVE, "page-pixel", level)
            called = answer.scores >= data["image"]["cuts"][cut]
            above = answer.maps.astype(np.float64) >= data["pixel"]["edges"][level - 1]
            masks = answer.truth.masks
            expected = {
                "image found": called & labels, "image missed": ~called & labels,
                "image alarm": called & ~labels, "image passed": ~called & ~labels,
                "pixel found": above & masks, "pixel missed": ~above & masks,
                "pixel alarm": above & ~masks, "pixel passed": ~above & ~masks,
            }  # fmt: skip
            assert browser.execute_script(COUNTS) == {
                name: int(cells.sum()) for name, cells in expected.items()
            }
            order = worst_first(answer.scores, labels, called)
            sorted_names = [answer.images.paths[i].removeprefix("part/") for i in order]
            wait_until(lambda wanted=sorted_names: names(browser) == wanted)
            if level == 40:
                share = above[order[0]].mean()
                wait_until(lambda s=share: abs(browser.execute_script(ORANGE) - s) < 0.12 * s)
        assert browser.find_element("css selector", ".moved").is_displayed()
        assert browser.get_log("browser") == []

    def test_names_are_text_keys_work_and_axe_is_content(
        self, browser: Any, written: Path
    ) -> None:
        from test_report_access import CONTROLS, PHONE, complaints

        browser.get(written.as_uri())
        assert ODD.removeprefix("part/") in names(browser)
        assert browser.execute_script("return document.querySelectorAll('b').length") > 0
        assert browser.find_element("tag name", "h1").text.startswith("<b>odd</b>, trial 3")
        number, bad = browser.execute_script(CONTROLS)
        assert number > 20 and bad == []

        body = browser.find_element("tag name", "body")
        place = "return document.getElementById('page-image').value"
        start = browser.execute_script(place)
        body.send_keys("+")
        assert int(browser.execute_script(place)) == int(start) + 1
        body.send_keys("0")
        assert browser.execute_script(place) == start
        assert complaints(browser, "html") == []

        shown = names(browser)
        browser.find_element("css selector", ".grid button").click()
        title = browser.find_element("id", "large-title")
        wait_until(lambda: title.text.removeprefix("part/") == shown[0])
        title.find_element("xpath", "..").find_element("css selector", "button").send_keys(
            "\ue014"
        )
        wait_until(lambda: title.text.removeprefix("part/") == shown[1])
        # What is shown large may be the last of a list that no image passes any more.
        browser.execute_script(
            "const search = document.querySelector('input[type=search]');"
            "search.value = 'no such name'; search.dispatchEvent(new Event('input'));"
        )
        assert names(browser) == []
        title.find_element("xpath", "..").find_element("css selector", "button").send_keys(
            "\ue014"
        )
        assert title.text.removeprefix("part/") == shown[1]
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
        assert complaints(browser, "html") == []
        wide = "return document.documentElement.scrollWidth <= window.innerWidth"
        assert browser.execute_script(wide)
        assert browser.get_log("browser") == []
