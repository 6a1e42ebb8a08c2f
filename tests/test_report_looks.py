"""How the report looks: labels apart from each other, and on paper all of it, in light colours."""

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from report_parts import ROWS, wait_until

from autosearch.report.info import study_info, view_data
from autosearch.storage.folder import StudyFolder

# What a reader would see: charts that are drawn, their widths and letters, rows, parts in sight.
STATE = """
const root = document.querySelector(".autosearch");
const charts = [...root.querySelectorAll(".chart")].filter((one) => one.data);
const seen = (selector) => [...root.querySelectorAll(selector)].some((one) => one.offsetParent);
return {
  drawn: charts.map((one) => one.className.split(" ")[1]),
  widths: charts.filter((one) => !one.matches(".parallel"))
    .map((one) => Math.abs(one._fullLayout.width - one.clientWidth) < 2),
  zoom: root.querySelector(".parallel").style.zoom,
  colours: [...new Set(charts.map((one) => one._fullLayout.font.color))],
  ground: getComputedStyle(root).backgroundColor,
  rows: root.querySelectorAll(".trials tbody tr").length,
  controls: seen(".controls, .budget input, .budget button, .copy, .pages button"),
  provenance: seen(".study-head details[open]"),
  cut: [...root.querySelectorAll(".scroll, .details")].filter((one) => one.offsetParent &&
    one.scrollWidth > root.clientWidth).length,
};
"""
# Of the strip of trials without a result: top of the axis title, bottom of the lowest label beside
# it, bottom of the title, bottom of the strip.
LOST_LABELS = """
const strip = document.querySelector(".lost");
const box = (one) => one.getBoundingClientRect();
const ticks = [...strip.querySelectorAll(".xtick text")].map((one) => box(one).bottom);
const title = box(strip.querySelector(".xtitle"));
return [title.top, Math.max(...ticks), title.bottom, box(strip).bottom];
"""
# Heights of the lines of parallel coordinates on the axes of two figures, by trial; and which of
# the trials off the front is drawn in the strongest blue where the figures are these.
PARALLEL = """
const charts = window.autosearch.charts, study = arguments[0];
const look = charts.theme(document.querySelector(".autosearch"));
const draw = (x, y) => charts.parallel(study, { x, y }, null, look);
const { traces, layout } = draw("gflops", "rwap");
const at = ["gflops", "rwap"].map((name) => layout.xaxis.ticktext.indexOf(name));
const heights = {};
for (const one of traces.filter((trace) => trace.mode === "lines")) {
  one.customdata.forEach((i, place) => {
    if (i === null || !at.includes(one.x[place])) return;
    heights[i] = [...(heights[i] || []), one.y[place]];
  });
}
const strongest = (x, y) => draw(x, y).traces
  .filter((one) => one.line && one.line.color === look.shades[4])
  .flatMap((one) => one.customdata).filter((i) => i !== null);
return [heights, strongest("gflops", "rwap"), strongest("rwap", "gflops")];
"""
DARK = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}


@pytest.fixture
def opened(browser: Any, odd_report: Path) -> Any:
    """The report on a dark screen, not scrolled."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", DARK)
    browser.get(odd_report.as_uri())
    wait_until(lambda: browser.find_elements("css selector", ".curve .main-svg"))
    return browser


def test_everything_is_drawn_for_paper_and_put_back(opened: Any) -> None:
    before = opened.execute_script(STATE)
    assert "parallel" not in before["drawn"] and before["rows"] == 0
    assert before["controls"] and not before["provenance"]
    paper = opened.execute_script("dispatchEvent(new Event('beforeprint'));" + STATE)
    charts = {"scatter", "lost", "curve", "progress", "importance", "parallel"}
    assert set(paper["drawn"]) == charts and all(paper["widths"])
    assert paper["colours"] == ["#1c2024"] and paper["ground"] == "rgb(255, 255, 255)"
    assert paper["rows"] == 80 and paper["provenance"]
    assert not paper["controls"] and paper["cut"] == 0
    opened.execute_script("dispatchEvent(new Event('afterprint'))")
    wait_until(lambda: all(opened.execute_script(STATE)["widths"]))
    after = opened.execute_script(STATE)
    assert after["colours"][0] == before["colours"][0] and after["ground"] == before["ground"]
    assert after["controls"] and not after["provenance"] and after["zoom"] == ""
    for name in ("progress", "importance", "parallel"):
        opened.execute_script(f"document.querySelector('.{name}').scrollIntoView()")
        colour = f"return document.querySelector('.{name}')._fullLayout.font.color"
        wait_until(lambda colour=colour: [opened.execute_script(colour)] == before["colours"])
    opened.execute_script("document.querySelector('.trials').scrollIntoView()")
    wait_until(lambda: len(opened.execute_script(ROWS)) == 25)
    assert opened.get_log("browser") == []


def test_better_is_on_top_and_blue(opened: Any, odd_study: StudyFolder) -> None:
    (study,) = view_data([study_info(odd_study)])["studies"]
    heights, *strongest = opened.execute_script(PARALLEL, study)
    records = odd_study.trials.records()
    for place, (name, sign) in enumerate({"gflops": -1, "rwap": 1}.items()):
        order = sorted((int(i) for i in heights), key=lambda i: sign * records[i].values[name])
        assert heights[str(order[0])][place] == 0 and heights[str(order[-1])][place] == 1
        assert (drawn := [heights[str(i)][place] for i in order]) == sorted(drawn)
        others = [i for i in order if records[i].number not in study["front"]]
        blue = strongest[name == "gflops"]
        assert others[-1] in blue and others[0] not in blue


def test_a_browser_that_prints_asks_for_it(opened: Any, tmp_path: Path) -> None:
    sheet = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}
    printed = opened.execute_cdp_cmd("Page.printToPDF", sheet)
    assert "parallel" in opened.execute_script(STATE)["drawn"]
    assert not opened.find_elements("css selector", ".printing")
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext (poppler-utils) here, so the sheets cannot be read")
    (tmp_path / "report.pdf").write_bytes(base64.b64decode(printed["data"]))
    text = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "report.pdf", "-"], capture_output=True, text=True
    ).stdout
    for there in ("hypervolume, higher is better", "share of importance", "trial number",
                  "stage4.patch_size", "80 trials, page 1 of 1", "Data sha256"):  # fmt: skip
        assert there in text, there
    assert "Click a point" not in text
    # The heading of the table stands on every sheet that has rows of it.
    sheets = [sheet for sheet in text.split("\f") if sheet.count("complete") > 5]
    assert len(sheets) > 1 and all("search_gflops" in sheet for sheet in sheets)


@pytest.mark.parametrize("width", [1440, 390])
def test_labels_of_the_lost_trials_lie_apart(browser: Any, odd_report: Path, width: int) -> None:
    window = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    browser.get(odd_report.as_uri())
    browser.execute_script("document.querySelector('.lost').scrollIntoView({block: 'center'})")
    # Also after the window's size has changed.
    for other in (width, width - 40):
        resized = {**window, "width": other}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", resized)
        wait_until(lambda: abs(browser.execute_script(
            "const chart = document.querySelector('.lost');"
            "return chart._fullLayout ? chart._fullLayout.width - chart.clientWidth : 99")) < 1
        )  # fmt: skip
        title, ticks, bottom, end = browser.execute_script(LOST_LABELS)
        assert title > ticks and bottom <= end
