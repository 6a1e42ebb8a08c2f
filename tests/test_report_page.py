"""The report in a real browser: what is drawn, and what a click, a key or newer data change."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_parts import CURVES, ODD, ODD_SERIES, ROWS, SPEND, filter_table, show_table, wait_until

from autosearch.contracts.trials import SCORED, Status, TrialRecord
from autosearch.report.info import study_info, view_data
from autosearch.storage.folder import StudyFolder
from autosearch.storage.trial_store import TrialStore

# Of every chart among the details: title and type of the y axis, title of x, names in the legend.
PANELS = """
return [...document.querySelectorAll(".details .curve .main-svg:first-of-type")].map((svg) => {
  const chart = svg.closest(".curve"), texts = (selector) =>
    [...chart.querySelectorAll(selector)].map((one) => one.textContent);
  return [texts(".ytitle").join(), chart._fullLayout.yaxis.type, texts(".xtitle").join(),
          texts(".legendtext")];
});
"""

# What a tooltip says of the first trial of a study.
TOOLTIP = """
return autosearch.parts.hoverText(arguments[0], 0, {x: "gflops", y: "rwap"}, false)
  .map((one) => one.textContent).join(" ");
"""

# Where a trial lies in the window, by plotly's own axes.
PLACE = """
const chart = document.querySelector(".scatter");
chart.scrollIntoView({block: "center"});
const box = chart.getBoundingClientRect(), {xaxis, yaxis} = chart._fullLayout;
return [box.left + xaxis._offset + xaxis.d2p(arguments[0]),
        box.top + yaxis._offset + yaxis.d2p(arguments[1])];
"""


# Marks of the recommended trial: text and tooltip, in the table and above a trial's details.
MARKS = """
const study = arguments[0], parts = autosearch.parts, nothing = () => null;
const state = {sort: {column: "trial", down: false}, page: 0, filter: "", selected: null};
const table = parts.element("div", {}, parts.table([study], state, nothing, nothing));
const page = (i) => parts.element("div", {}, parts.details(study, i, false,
  {artifact: nothing}, nothing, nothing));
return [table, page(arguments[1]), page(arguments[1] + 1)].map((one) =>
  [...one.querySelectorAll(".advised")].map((mark) => [mark.textContent.trim(), mark.title]));
"""


@pytest.fixture
def shown(browser: Any, odd_report: Path) -> Iterator[Any]:
    """The report of one study in the browser; the test fails if the browser complains."""
    browser.get(odd_report.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def test_every_scored_trial_is_a_point_and_the_front_a_line(
    shown: Any, odd_study: StudyFolder
) -> None:
    records = odd_study.trials.records()
    drawn = "return document.querySelectorAll('.scatter .scatterlayer .point').length"
    assert shown.execute_script(drawn) == sum(r.status in SCORED for r in records)
    traces = shown.execute_script(
        "return document.querySelector('.scatter').data.map((t) => "
        "[t.name, t.marker.symbol, t.marker.color, t.line && t.line.shape, t.customdata])"
    )
    by_name = {trace[0]: trace for trace in traces}
    assert by_name["Pareto front"][3] == "hv"
    assert by_name["Pareto front"][4] == study_info(odd_study)["front"]
    assert len({trace[1] for trace in traces}) == len(traces) > 2
    lost = "return document.querySelectorAll('.lost .scatterlayer .point').length"
    unscored = sum(r.status not in SCORED for r in records)
    wait_until(lambda: shown.execute_script(lost) == unscored)


def test_hover_tells_everything_and_a_click_shows_the_trial(
    shown: Any, odd_study: StudyFolder
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    record = odd_study.trials.records()[study_info(odd_study)["front"][0]]
    x, y = shown.execute_script(PLACE, record.values["gflops"], record.values["rwap"])
    pointer = ActionChains(shown)
    pointer.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    pointer.perform()
    hint = shown.find_element("css selector", ".tooltip")
    wait_until(hint.is_displayed)
    for name in (*record.params, *record.values, "ap", "gmacs"):
        assert name in hint.text
    pointer = ActionChains(shown)
    pointer.w3c_actions.pointer_action.click()
    pointer.perform()
    details = shown.find_element("css selector", ".details")
    wait_until(lambda: details.text.startswith(f"Trial {record.number}"))
    text = details.get_attribute("textContent")
    assert f"{record.values['rwap']:.4g}" in text
    assert "stage 4" in text and "extraction block" in text
    assert f"--trial {record.number}" in text
    picture = details.find_element("css selector", "img")
    wait_until(lambda: picture.get_property("naturalWidth") == 484)


def test_test_figures_and_tracebacks_stand_in_the_details(
    shown: Any, odd_study: StudyFolder
) -> None:
    info = study_info(odd_study)
    details = shown.find_element("css selector", ".details")
    filter_table(shown, f"trial={info['front'][-1]}")
    shown.find_element("css selector", ".trials tbody button").click()
    text = details.get_attribute("textContent")
    assert "12 images" in text and "0.2345" in text and "0.1 to 0.4" in text and "0.1234" in text
    failed = next(r for r in odd_study.trials.records() if r.status == Status.FAILED)
    filter_table(shown, f"trial={failed.number}")
    shown.find_element("css selector", ".trials tbody button").click()
    wait_until(lambda: "recent call last): <script>" in details.text)
    assert "failed on purpose <b>" in details.text


def test_curves_and_places_of_defects_stand_in_the_details(shown: Any) -> None:
    details = shown.find_element("css selector", ".details")
    wait_until(lambda: len(shown.execute_script(PANELS)) == 3)
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
    wait_until(lambda: picture.get_property("naturalWidth") == 600)
    shown.find_element("css selector", ".scatter").send_keys("\ue012")
    wait_until(lambda: not details.find_elements("css selector", ".curve"))
    assert "Training" not in details.text and "Where defects" not in details.text


def test_the_slider_recommends_the_best_trial_within_the_budget(
    shown: Any, odd_study: StudyFolder
) -> None:
    scored = [r for r in odd_study.trials.records() if r.status in SCORED]
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


def test_the_recommended_trial_has_a_mark_with_the_reasons(
    shown: Any, odd_study: StudyFolder
) -> None:
    info = study_info(odd_study)
    assert info["recommended"] is None, "validation cannot tell them apart"
    assert shown.execute_script(MARKS, info, 3) == [[], [], []]
    marked = info | {"recommended": {"number": 3, "reasons": ["<b>best</b> of all", "cheap"]}}
    table, own, other = shown.execute_script(MARKS, marked, 3)
    why = "Recommended: <b>best</b> of all; cheap"
    assert (table, own, other) == ([["★", why]], [["★ recommended", why]], [])


def test_the_table_sorts_filters_and_turns_pages(shown: Any, odd_study: StudyFolder) -> None:
    records = odd_study.trials.records()
    scored = sorted((r for r in records if r.status in SCORED), key=lambda r: -r.values["rwap"])
    show_table(shown)
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
            records[n] for n in study_info(odd_study)["front"] if records[n].values["rwap"] > 0.3
        ],
        "complete stage0.extraction_block=none": [
            r
            for r in records
            if r.status == Status.COMPLETE and r.params["stage0.extraction_block"] is None
        ],
    }.items():
        filter_table(shown, text)
        told = shown.find_element("css selector", ".pages").text
        assert f"{len(expected)} trial" in told, text
        assert {int(row[0]) for row in shown.execute_script(ROWS)} <= {r.number for r in expected}


def test_axes_can_be_changed_and_test_figures_choose_nothing(
    shown: Any, odd_study: StudyFolder
) -> None:
    change = """
    const input = document.querySelectorAll(".choose select")[arguments[0]];
    input.value = arguments[1];
    input.dispatchEvent(new Event("change"));
    return document.querySelector(".budget").textContent;
    """
    assert "By chance, the best ap with gflops" in shown.execute_script(change, 1, "ap")
    title = "return document.querySelector('.scatter').layout.yaxis.title.text"
    assert shown.execute_script(title) == "ap, higher is better"
    wide = """
    const study = (gflops) => ({ statuses: ["complete"],
      trials: { number: [0, 1], status: [0, 0], figures: { gflops } } });
    return [[0.1, 2], [0.1, 27], [0, 27]].map((one) =>
      window.autosearch.data.wide([study(one)], "gflops"));
    """
    assert shown.execute_script(wide) == [False, True, False]
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
    record = odd_study.trials.records()[best]
    place = shown.execute_script(PLACE, record.values["gflops"], record.measured["ap"])
    near = [np.hypot(*np.subtract(place, one)) < 2 for one in shown.execute_script(ring)]
    assert any(near), "the recommended trial is ringed on a logarithmic axis too"
    assert "for reporting" in shown.execute_script(change, 1, "test rwap")


def test_arrow_keys_walk_along_the_front(shown: Any, odd_study: StudyFolder) -> None:
    front = study_info(odd_study)["front"]
    chart = shown.find_element("css selector", ".scatter")
    details = shown.find_element("css selector", ".details")
    assert details.text.startswith(f"Trial {front[-1]}"), "the best one is shown at first"
    chart.send_keys("\ue012")
    assert details.text.startswith(f"Trial {front[-2]}")


def test_charts_further_down_are_drawn_when_they_come_into_sight(shown: Any) -> None:
    for name, kind in {"progress": "lines", "importance": "bar", "parallel": "lines"}.items():
        shown.execute_script(f"document.querySelector('.{name}').scrollIntoView()")
        wait_until(lambda name=name: shown.execute_script(
            f"return (document.querySelector('.{name}').data || []).length"))  # fmt: skip
        traces = shown.execute_script(f"return document.querySelector('.{name}').data")
        assert kind in {traces[0].get("mode"), traces[0]["type"]}


def test_newer_data_keeps_zoom_selection_filter_and_axes(
    shown: Any, odd_study: StudyFolder
) -> None:
    filter_table(shown, "front")
    shown.execute_script(SPEND, 400)
    number = shown.find_element("css selector", ".budget button").get_attribute("data-trial")
    shown.find_element("css selector", ".budget button").click()
    data = view_data([study_info(odd_study)])
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
    show_table(shown)
    wait_until(lambda: [row[0] for row in shown.execute_script(ROWS)] == ["0"])


def test_studies_can_be_taken_away_begin_empty_and_come_back(
    shown: Any, odd_study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = view_data([study_info(odd_study)])
    update = "autosearch.update(arguments[0]); scrollTo(0, 1e6)"
    text = "return document.querySelector('#view').textContent"
    shown.execute_script(update, view_data([]))
    assert "No study is chosen" in shown.execute_script(text)
    monkeypatch.setattr(TrialStore, "records", lambda self: [TrialRecord(0, Status.RUNNING, {})])
    shown.execute_script(update, view_data([study_info(odd_study)]))
    assert "0 of 80 trials (0 %): 1 running" in shown.execute_script(text)
    assert "No trial to recommend yet" in shown.execute_script(text)
    shown.execute_script(update, data)
    assert "rwap against gflops" in shown.execute_script(text)
    wait_until(lambda: len(shown.execute_script(ROWS)) == 25)


def test_names_and_reasons_are_never_markup(shown: Any) -> None:
    assert ODD in shown.title
    text = shown.execute_script("return document.querySelector('#view').textContent")
    assert ODD in text
    made = "return document.querySelectorAll('#view script, #view img[src=x], #view b').length"
    assert shown.execute_script(made) == 0


def test_defaults_that_have_parts_built_are_shown(
    shown: Any, odd_study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"stage0.extraction_block": 1}
    built = {**asked, "stage1.extraction_block": 6, "stage1.patch_size": 3, "width": 1.0}
    built |= {"stage2.extraction_block": None}
    records = [
        replace(record, params=asked, canonical=built) for record in odd_study.trials.records()
    ]
    monkeypatch.setattr(TrialStore, "records", lambda self: records)
    data = view_data([study_info(odd_study)])
    shown.execute_script("autosearch.update(arguments[0])", data)
    shown.find_element("css selector", ".scatter").send_keys("\ue012")
    cells = """
    return [...document.querySelectorAll(".details .plain tr")].map((row) =>
      [...row.cells].map((cell) => cell.textContent));
    """
    rows = {row[0]: row[1:] for row in shown.execute_script(cells)}
    assert rows["stage 0"] == ["1", "\N{EN DASH}"]
    assert rows["stage 1"] == ["6 default", "3 default"]
    assert "1 default" in shown.find_element("css selector", ".details").text
    text = shown.execute_script(TOOLTIP, data["studies"][0])
    assert "stage1.extraction_block6 default" in text and "stage2" not in text


def test_the_whole_cost_stands_beside_the_networks(
    shown: Any, odd_study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    details = shown.find_element("css selector", ".details").text
    front = odd_study.trials.records()[study_info(odd_study)["front"][-1]]
    both = f"total_gflops\n{front.values['gflops'] + 3:.4g} GFLOP"
    assert f"gflops\n{front.values['gflops']:.4g} GFLOP\n{both}\nrwap" in details
    show_table(shown)
    names = [one.text for one in shown.find_elements("css selector", ".trials thead th")]
    assert names[2:5] == ["gflops (GFLOP)", "total_gflops (GFLOP)", "rwap"]
    options = "return [...document.querySelector('.choose select').options].map((o) => o.value)"
    assert shown.execute_script(options)[:3] == ["gflops", "total_gflops", "rwap"]
    info = study_info(odd_study)
    text = shown.execute_script(TOOLTIP, info)
    assert text.index("gflops") < text.index("total_gflops") < text.index("rwap")
    assert not [text for text in info["warnings"] if "total_gflops" in text]
    records = [
        replace(r, measured={**r.measured, "total_gflops": 9 - r.values.get("gflops", 0)})
        for r in odd_study.trials.records()
    ]
    monkeypatch.setattr(TrialStore, "records", lambda self: records)
    shown.execute_script("autosearch.update(arguments[0])", view_data([study_info(odd_study)]))
    said = " ".join(one.text for one in shown.find_elements("css selector", ".warning"))
    assert "order the front otherwise than total_gflops" in said


def test_dark_pages_are_dark_and_phones_need_no_sideways_scrolling(
    browser: Any, odd_report: Path
) -> None:
    colours = """
    const style = getComputedStyle(document.querySelector("#view"));
    const brightness = (colour) => colour.match(/\\d+/g).slice(0, 3).map(Number)
      .reduce((a, b) => a + b);
    return [brightness(style.color), brightness(style.backgroundColor),
            document.querySelector(".scatter").layout.font.color,
            document.querySelector(".curve").layout.font.color];
    """
    browser.get(odd_report.as_uri())
    wait_until(lambda: browser.find_elements("css selector", ".curve .main-svg"))
    text, ground, *light = browser.execute_script(colours)
    assert text < ground
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    wait_until(lambda: not {*browser.execute_script(colours)[2:]} & {*light})
    text, ground, *_ = browser.execute_script(colours)
    assert text > ground
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(odd_report.as_uri())
    wait_until(lambda: browser.find_elements("css selector", ".curve .main-svg"))
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    details = browser.find_element("css selector", ".details").rect
    for part in browser.find_elements("css selector", ".curve .main-svg, .details img"):
        assert details["x"] <= part.rect["x"]
        assert part.rect["x"] + part.rect["width"] <= details["x"] + details["width"]
    assert browser.get_log("browser") == []
