"""The report in a real browser: what is drawn, what a click shows, what cannot happen."""

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autosearch.cli.pages import report
from autosearch.contracts.trials import SCORED, Outcome, Status, TrialRecord
from autosearch.errors import ConfigError, StudyError
from autosearch.report import page as report_page
from autosearch.report.info import study_info, view_data
from autosearch.report.page import write_report
from autosearch.storage.folder import StudyFolder
from autosearch.storage.trial_store import TrialStore

MakeStudy = Callable[..., StudyFolder]

ODD = "<script>alert(1)<img src=x onerror=alert(2)>"
INTERVAL = {"rwap": [0.1, 0.4]}
TEST_FIGURES = {
    "metrics": {"rwap": 0.2345}, "intervals": INTERVAL, "bootstrap": {"level": 0.95},
    "data": {"images": 12}, "validation": {"reproduced": True},
    "types": {"crack": {"images": 3, "metrics": {"rwap": 0.1234}, "intervals": INTERVAL}},
}  # fmt: skip

ODD_SERIES = "</script><script>alert(3)</script><b>%{y}"
CURVES = {
    "x": "epoch",
    "panels": [
        {"title": "loss", "series": {ODD_SERIES: [3.0, 0.2, 0.02], "outer": [None, 2.0, 0.5]}},
        {"title": "share <b>of</b> something with a name so long that it is cut",
         "series": {"share": [0.0, 0.5, 900.0]}},
        {"title": "rate", "series": {"rate": [0.01, 0.5, 0.99]}},
    ],
}  # fmt: skip

# Of every chart among the details: title and type of the y axis, title of x, names in the legend.
PANELS = """
return [...document.querySelectorAll(".details .curve .main-svg:first-of-type")].map((svg) => {
  const chart = svg.closest(".curve"), texts = (selector) =>
    [...chart.querySelectorAll(selector)].map((one) => one.textContent);
  return [texts(".ytitle").join(), chart._fullLayout.yaxis.type, texts(".xtitle").join(),
          texts(".legendtext")];
});
"""

# Where a trial lies in the window, by plotly's own axes.
PLACE = """
const chart = document.querySelector(".scatter");
chart.scrollIntoView({block: "center"});
const box = chart.getBoundingClientRect(), {xaxis, yaxis} = chart._fullLayout;
return [box.left + xaxis._offset + xaxis.d2p(arguments[0]),
        box.top + yaxis._offset + yaxis.d2p(arguments[1])];
"""
SPEND = """
const slider = document.querySelector("input[type=range]");
slider.value = arguments[0];
slider.dispatchEvent(new Event("input"));
const button = document.querySelector(".budget button");
return [Number(button.dataset.trial), slider.getAttribute("aria-valuetext")];
"""
ROWS = """
return [...document.querySelectorAll(".trials tbody tr")]
  .map((row) => [...row.cells].map((cell) => cell.textContent));
"""


@pytest.fixture(scope="module")
def folder(make_study: MakeStudy, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    made = make_study(tmp_path_factory.mktemp("page") / ODD, 80)
    last = study_info(made)["front"][-1]
    made.files.write_test(last, TEST_FIGURES)
    places = io.BytesIO()
    Image.new("RGB", (600, 300)).save(places, "JPEG")
    files = {"curves.json": json.dumps(CURVES).encode(), "locations.jpg": places.getvalue()}
    made.files.write_outcome(last, Outcome(Status.COMPLETE, artifacts=files))
    return made


@pytest.fixture(scope="module")
def file(folder: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([folder], tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def shown(browser: Any, file: Path) -> Iterator[Any]:
    """The report of one study in the browser; the test fails if the browser complains."""
    browser.get(file.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def test_every_scored_trial_is_a_point_and_the_front_a_line(
    shown: Any, folder: StudyFolder
) -> None:
    records = folder.trials.records()
    drawn = "return document.querySelectorAll('.scatter .scatterlayer .point').length"
    assert shown.execute_script(drawn) == sum(r.status in SCORED for r in records)
    traces = shown.execute_script(
        "return document.querySelector('.scatter').data.map((t) => "
        "[t.name, t.marker.symbol, t.marker.color, t.line && t.line.shape, t.customdata])"
    )
    by_name = {trace[0]: trace for trace in traces}
    assert by_name["Pareto front"][3] == "hv"
    assert by_name["Pareto front"][4] == study_info(folder)["front"]
    assert len({trace[1] for trace in traces}) == len(traces) > 2
    lost = "return document.querySelectorAll('.lost .scatterlayer .point').length"
    unscored = sum(r.status not in SCORED for r in records)
    _wait(lambda: shown.execute_script(lost) == unscored)


def test_hover_tells_everything_and_a_click_shows_the_trial(
    shown: Any, folder: StudyFolder
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    record = folder.trials.records()[study_info(folder)["front"][0]]
    x, y = shown.execute_script(PLACE, record.values["gflops"], record.values["rwap"])
    pointer = ActionChains(shown)
    pointer.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    pointer.perform()
    hint = shown.find_element("css selector", ".tooltip")
    _wait(hint.is_displayed)
    for name in (*record.params, *record.values, "ap", "gmacs"):
        assert name in hint.text
    pointer = ActionChains(shown)
    pointer.w3c_actions.pointer_action.click()
    pointer.perform()
    details = shown.find_element("css selector", ".details")
    _wait(lambda: details.text.startswith(f"Trial {record.number}"))
    text = details.get_attribute("textContent")
    assert f"{record.values['rwap']:.4g}" in text
    assert "stage 4" in text and "extraction block" in text
    assert f"--trial {record.number}" in text
    picture = details.find_element("css selector", "img")
    _wait(lambda: picture.get_property("naturalWidth") == 484)


def test_test_figures_and_tracebacks_stand_in_the_details(shown: Any, folder: StudyFolder) -> None:
    info = study_info(folder)
    details = shown.find_element("css selector", ".details")
    _filter(shown, f"trial={info['front'][-1]}")
    shown.find_element("css selector", ".trials tbody button").click()
    text = details.get_attribute("textContent")
    assert "12 images" in text and "0.2345" in text and "0.1 to 0.4" in text and "0.1234" in text
    failed = next(r for r in folder.trials.records() if r.status == Status.FAILED)
    _filter(shown, f"trial={failed.number}")
    shown.find_element("css selector", ".trials tbody button").click()
    _wait(lambda: "recent call last): <script>" in details.text)
    assert "failed on purpose <b>" in details.text


def test_curves_and_places_of_defects_stand_in_the_details(shown: Any) -> None:
    details = shown.find_element("css selector", ".details")
    _wait(lambda: len(shown.execute_script(PANELS)) == 3)
    assert shown.execute_script(PANELS) == [
        ["loss", "log", "epoch", [ODD_SERIES[:35] + "…", "outer"]],
        ["share <b>of</b>something with a name…", "linear", "epoch", []],
        ["rate", "linear", "epoch", []],
    ]
    drawn = "return [...document.querySelectorAll('.curve')].map((c) => c.data.map((t) => t.y))"
    assert shown.execute_script(drawn) == [
        list(panel["series"].values()) for panel in CURVES["panels"]
    ]
    heads = [head.text for head in details.find_elements("css selector", "h4")]
    assert heads.index("Training") == heads.index("Where defects are pasted") + 1
    picture = details.find_element("css selector", "[alt^=Places]")
    shown.execute_script("arguments[0].scrollIntoView()", picture)
    _wait(lambda: picture.get_property("naturalWidth") == 600)
    shown.find_element("css selector", ".scatter").send_keys("\ue012")
    _wait(lambda: not details.find_elements("css selector", ".curve"))
    assert "Training" not in details.text and "Where defects" not in details.text


def test_the_slider_recommends_the_best_trial_within_the_budget(
    shown: Any, folder: StudyFolder
) -> None:
    scored = [r for r in folder.trials.records() if r.status in SCORED]
    costs = [r.values["gflops"] for r in scored]
    answers = set()
    for place in (0, 150, 400, 700, 1000):
        budget = min(costs) + place / 1000 * (max(costs) - min(costs))
        within = [r for r in scored if r.values["gflops"] <= budget + 1e-9]
        best = max(within, key=lambda r: r.values["rwap"])
        number, limit = shown.execute_script(SPEND, place)
        assert number == best.number
        assert limit == f"{budget:.4g} GFLOP"
        answers.add(number)
    assert len(answers) > 2
    shown.find_element("css selector", ".budget button").click()
    text = shown.find_element("css selector", ".details").text
    assert text.startswith(f"Trial {number}")


def test_the_table_sorts_filters_and_turns_pages(shown: Any, folder: StudyFolder) -> None:
    records = folder.trials.records()
    scored = sorted((r for r in records if r.status in SCORED), key=lambda r: -r.values["rwap"])
    _table(shown)
    column = [one.text for one in shown.find_elements("css selector", ".trials thead th")]
    rwap = next(place for place, text in enumerate(column) if text.startswith("rwap"))
    shown.find_element("css selector", "[data-column=rwap]").click()
    rows = shown.execute_script(ROWS)
    assert [int(row[0]) for row in rows] == [r.number for r in scored[: len(rows)]]
    assert rows[0][rwap] == f"{scored[0].values['rwap']:.4g}"
    shown.find_element("css selector", "[data-column=rwap]").click()
    assert int(shown.execute_script(ROWS)[0][0]) == scored[-1].number
    focused = "return document.activeElement.dataset.column"
    assert shown.execute_script(focused) == "rwap"
    first = shown.execute_script(ROWS)[0]
    shown.find_element("css selector", ".pages button:last-child").click()
    assert shown.execute_script(ROWS)[0] != first
    for text, expected in {
        "failed": [r for r in records if r.status == Status.FAILED],
        "front rwap>0.3": [
            records[n] for n in study_info(folder)["front"] if records[n].values["rwap"] > 0.3
        ],
        "complete stage0.extraction_block=none": [
            r
            for r in records
            if r.status == Status.COMPLETE and r.params["stage0.extraction_block"] is None
        ],
    }.items():
        _filter(shown, text)
        told = shown.find_element("css selector", ".pages").text
        assert f"{len(expected)} trial" in told, text
        assert {int(row[0]) for row in shown.execute_script(ROWS)} <= {r.number for r in expected}


def test_axes_can_be_changed_and_test_figures_choose_nothing(
    shown: Any, folder: StudyFolder
) -> None:
    change = """
    const input = document.querySelectorAll(".choose select")[arguments[0]];
    input.value = arguments[1];
    input.dispatchEvent(new Event("change"));
    return document.querySelector(".budget").textContent;
    """
    assert "Best ap with gflops" in shown.execute_script(change, 1, "ap")
    title = "return document.querySelector('.scatter').layout.yaxis.title.text"
    assert shown.execute_script(title) == "ap, higher is better"
    shown.find_elements("css selector", ".choose input[type=checkbox]")[0].click()
    assert shown.execute_script("return document.querySelector('.scatter').layout.xaxis.type") == (
        "log"
    )
    ring = """
    return [...document.querySelectorAll(".scatter .shapelayer path")].map((one) => {
      const at = one.getBoundingClientRect();
      return [at.left + at.width / 2, at.top + at.height / 2];
    });
    """
    best = int(shown.find_element("css selector", ".budget button").get_attribute("data-trial"))
    record = folder.trials.records()[best]
    place = shown.execute_script(PLACE, record.values["gflops"], record.measured["ap"])
    near = [np.hypot(*np.subtract(place, one)) < 2 for one in shown.execute_script(ring)]
    assert any(near), "the recommended trial is ringed on a logarithmic axis too"
    assert "for reporting" in shown.execute_script(change, 1, "test rwap")


def test_arrow_keys_walk_along_the_front(shown: Any, folder: StudyFolder) -> None:
    front = study_info(folder)["front"]
    chart = shown.find_element("css selector", ".scatter")
    details = shown.find_element("css selector", ".details")
    assert details.text.startswith(f"Trial {front[-1]}"), "the best one is shown at first"
    chart.send_keys("\ue012")
    assert details.text.startswith(f"Trial {front[-2]}")


def test_charts_further_down_are_drawn_when_they_come_into_sight(shown: Any) -> None:
    for name, kind in {"progress": "lines", "importance": "bar", "parallel": "lines"}.items():
        shown.execute_script(f"document.querySelector('.{name}').scrollIntoView()")
        _wait(lambda name=name: shown.execute_script(
            f"return (document.querySelector('.{name}').data || []).length"))  # fmt: skip
        traces = shown.execute_script(f"return document.querySelector('.{name}').data")
        assert kind in {traces[0].get("mode"), traces[0]["type"]}


def test_newer_data_keeps_zoom_selection_filter_and_axes(shown: Any, folder: StudyFolder) -> None:
    _filter(shown, "front")
    shown.execute_script(SPEND, 400)
    number = shown.find_element("css selector", ".budget button").get_attribute("data-trial")
    shown.find_element("css selector", ".budget button").click()
    data = view_data([study_info(folder)])
    study = data["studies"][0]
    study["trials"]["figures"]["rwap"][0] = 0.9
    study["front"] = [0]
    state = """
    const chart = document.querySelector(".scatter");
    return [chart._fullLayout.xaxis.range, chart._fullLayout.yaxis.range,
            document.querySelector(".details h3").firstChild.textContent,
            document.querySelector("input[type=search]").value,
            document.querySelector("input[type=range]").value];
    """
    shown.execute_script(
        "Plotly.relayout(document.querySelector('.scatter'), "
        "{'xaxis.range': [0.1, 0.3], 'yaxis.range': [0.2, 0.4]})"
    )
    before = shown.execute_script(state)
    shown.execute_script("autosearch.update(arguments[0])", data)
    after = shown.execute_script(state)
    assert after == before
    assert after[0] == [0.1, 0.3] and after[2].strip() == f"Trial {number}"
    _table(shown)
    _wait(lambda: [row[0] for row in shown.execute_script(ROWS)] == ["0"])


def test_studies_can_be_taken_away_begin_empty_and_come_back(
    shown: Any, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = view_data([study_info(folder)])
    update = "autosearch.update(arguments[0]); scrollTo(0, 1e6)"
    text = "return document.querySelector('#view').textContent"
    shown.execute_script(update, view_data([]))
    assert "No study is chosen" in shown.execute_script(text)
    monkeypatch.setattr(TrialStore, "records", lambda self: [TrialRecord(0, Status.RUNNING, {})])
    shown.execute_script(update, view_data([study_info(folder)]))
    assert "0 of 80 trials (0 %): 1 running" in shown.execute_script(text)
    assert "No trial to recommend yet" in shown.execute_script(text)
    shown.execute_script(update, data)
    assert "rwap against gflops" in shown.execute_script(text)
    _wait(lambda: len(shown.execute_script(ROWS)) == 25)


def test_names_and_reasons_are_never_markup(shown: Any) -> None:
    assert ODD in shown.title
    text = shown.execute_script("return document.querySelector('#view').textContent")
    assert ODD in text
    made = "return document.querySelectorAll('#view script, #view img[src=x], #view b').length"
    assert shown.execute_script(made) == 0


def test_the_page_can_reach_no_network(browser: Any, file: Path) -> None:
    browser.get(file.as_uri())
    blocked = browser.execute_async_script(
        """
        const done = arguments[arguments.length - 1], seen = [];
        document.addEventListener("securitypolicyviolation", (event) => {
          seen.push(event.effectiveDirective);
          if (seen.length === 3) done(seen.sort());
        });
        new Image().src = "http://127.0.0.1:9/x.png";
        fetch("http://127.0.0.1:9/").catch(() => {});
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        """
    )
    assert blocked == ["connect-src", "img-src", "script-src-elem"]
    assert browser.execute_script("return window.ran") is None
    browser.get_log("browser")


def test_dark_pages_are_dark_and_phones_need_no_sideways_scrolling(
    browser: Any, file: Path
) -> None:
    colours = """
    const style = getComputedStyle(document.querySelector("#view"));
    const brightness = (colour) => colour.match(/\\d+/g).slice(0, 3).map(Number)
      .reduce((a, b) => a + b);
    return [brightness(style.color), brightness(style.backgroundColor),
            document.querySelector(".scatter").layout.font.color,
            document.querySelector(".curve").layout.font.color];
    """
    browser.get(file.as_uri())
    _wait(lambda: browser.find_elements("css selector", ".curve .main-svg"))
    text, ground, *light = browser.execute_script(colours)
    assert text < ground
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    _wait(lambda: not {*browser.execute_script(colours)[2:]} & {*light})
    text, ground, *_ = browser.execute_script(colours)
    assert text > ground
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(file.as_uri())
    _wait(lambda: browser.find_elements("css selector", ".curve .main-svg"))
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    details = browser.find_element("css selector", ".details").rect
    for part in browser.find_elements("css selector", ".curve .main-svg, .details img"):
        assert details["x"] <= part.rect["x"]
        assert part.rect["x"] + part.rect["width"] <= details["x"] + details["width"]
    assert browser.get_log("browser") == []


def test_repeated_studies_are_compared(
    browser: Any, make_study: MakeStudy, folder: StudyFolder, tmp_path: Path
) -> None:
    other = make_study(tmp_path / "second", 40, seed=1)
    browser.get(write_report([folder, other], tmp_path / "both.html").as_uri())
    traces = browser.execute_script("return document.querySelector('.scatter').data")
    named = {trace.get("name"): trace for trace in traces}
    assert "median and range of 2 studies" in named and "second" in named
    assert [trace["fill"] for trace in traces if "fill" in trace] == ["tonexty"]
    labels = browser.execute_script(
        "return [...document.querySelectorAll('.scatter .legendtext')].map((t) => t.textContent)"
    )
    assert ODD in labels and "second" in labels
    assert browser.get_log("browser") == []


def test_pictures_are_bounded_and_taken_evenly(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = view_data([study_info(folder)])
    front = data["studies"][0]["front"]
    everything = report_page._artifacts([folder], data["studies"])[ODD]
    assert [n for n in front if "maps.jpg" in everything[n]] == front
    size = len(everything[front[0]]["maps.jpg"])
    monkeypatch.setattr(report_page, "_PICTURES", 5 * size)
    kept = [n for n, files in report_page._artifacts([folder], data["studies"])[ODD].items()
            if "maps.jpg" in files]  # fmt: skip
    places = [front.index(n) for n in kept]
    assert 3 <= len(places) <= 5
    assert np.ptp(np.diff(places)) <= 1


def test_the_command_writes_where_it_is_told(
    make_study: MakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_study(tmp_path / "one", 5).path
    report([path])
    assert (path / "report.html").stat().st_size > 4_000_000
    out, megabytes = capsys.readouterr().out.split("  ")
    assert Path(out) == path / "report.html" and re.match(r"\(\d\.\d MB\)", megabytes)
    report([path], out=tmp_path / "new" / "here.html")
    assert (tmp_path / "new" / "here.html").is_file()
    with pytest.raises(ConfigError, match="--out"):
        report([path], out=tmp_path)
    with pytest.raises(StudyError, match="no study here"):
        report([tmp_path / "none"])
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be written"):
        report([path], out=tmp_path / "file" / "report.html")


@pytest.mark.slow
def test_ten_thousand_trials(
    browser: Any, make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_study(tmp_path / "large", 20)
    pattern = folder.trials.records()
    draw = np.random.default_rng(0)
    records = []
    for number in range(10_000):
        like = pattern[number % len(pattern)]
        gflops = float(draw.uniform(0.05, 0.6))
        found = {"gflops": gflops, "rwap": gflops * float(draw.uniform(0.2, 1.0))}
        values = found if like.status in SCORED else {}
        records.append(TrialRecord(number, like.status, like.params, like.canonical, values,
                                   like.measured, reason=like.reason))  # fmt: skip
    monkeypatch.setattr(TrialStore, "records", lambda self: records)
    noise = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(noise, "JPEG")
    outcome = Outcome(Status.COMPLETE, artifacts={"maps.jpg": noise.getvalue()})
    for number in study_info(folder)["front"]:
        folder.files.write_outcome(number, outcome)
    file = write_report([folder], tmp_path / "report.html")
    assert file.stat().st_size < 12_000_000
    browser.get(file.as_uri())
    drawn = "return document.querySelectorAll('.scatter .scatterlayer .point').length"
    assert browser.execute_script(drawn) == sum(r.status in SCORED for r in records)
    browser.execute_script(SPEND, 500)
    _filter(browser, "rwap>0.2")
    rows = browser.execute_script("return document.querySelectorAll('.trials tbody tr').length")
    assert rows <= 100, "the table shows a page, not everything"
    assert browser.get_log("browser") == []


def test_no_sign_in_the_data_ends_its_element(folder: StudyFolder, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    data, artifacts = (
        re.search(rf'id="{name}">(.*?)</script>', text, re.DOTALL)
        for name in ("data", "artifacts")
    )
    assert data is not None and "<" not in data[1]
    assert json.loads(data[1])["studies"][0]["name"] == ODD
    assert artifacts is not None and "<" not in artifacts[1]
    last = str(study_info(folder)["front"][-1])
    panels = json.loads(artifacts[1])[ODD][last]["curves.json"]["panels"]
    assert [panel["series"] for panel in panels] == [panel["series"] for panel in CURVES["panels"]]


def _wait(ready: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)


def _table(browser: Any) -> None:
    browser.execute_script("document.querySelector('input[type=search]').scrollIntoView()")
    _wait(lambda: browser.execute_script(ROWS))


def _filter(browser: Any, text: str) -> None:
    """Type a filter and wait until the table has taken it up."""
    _table(browser)
    browser.execute_script("document.querySelector('.pages').remove()")
    browser.execute_script(
        "const input = document.querySelector('input[type=search]');"
        "input.value = arguments[0]; input.dispatchEvent(new Event('input'))",
        text,
    )
    _wait(lambda: browser.find_elements("css selector", ".pages"))
