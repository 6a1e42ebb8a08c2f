"""From results to a decision in the page: the recommended trial, two side by side, the address."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_parts import ODD, ROWS, filter_table, show_table, wait_until

from autosearch.contracts.trials import SCORED
from autosearch.report.info import study_info, view_data
from autosearch.storage.folder import StudyFolder

LESS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"
LEFT, HOME, END, ESCAPE = "\ue012", "\ue011", "\ue010", "\ue00c"

STAR = """
return document.querySelector(".scatter").data.filter((one) => one.name === "recommended")
  .map((one) => [one.marker.symbol, one.x[0], one.y[0], one.customdata[0]]);
"""
# Head and rows of the tables of a comparison, the one of parameters first.
SIDES = """
return [...document.querySelectorAll(".comparison table")].map((one) =>
  [...one.rows].map((row) => [...row.cells].map((cell) => cell.textContent)));
"""
TITLE = "return document.querySelector('.details h3').firstChild.textContent.trim()"
HASH = "return decodeURIComponent(location.hash)"
# What the address is to bring back.
STATE = """
const {xaxis, yaxis} = document.querySelector(".scatter").layout;
return [xaxis.type, yaxis.title.text, document.querySelector("input[type=search]").value,
  document.querySelector(".details h3").firstChild.textContent,
  document.querySelector(".comparison th:nth-child(2)").textContent,
  document.querySelector(".trials thead [aria-sort=descending]").textContent,
  [...document.querySelectorAll(".trials tbody tr")].map((row) => row.cells[0].textContent)];
"""
CHANGE = """
const input = document.querySelectorAll(arguments[0])[arguments[1]];
input.value = arguments[2];
input.dispatchEvent(new Event("change"));
"""


@pytest.fixture
def shown(browser: Any, odd_report: Path) -> Iterator[Any]:
    """The report of one study in the browser; the test fails if the browser complains."""
    browser.get(odd_report.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def title(browser: Any) -> str:
    found: str = browser.execute_script(TITLE)
    return found


def press(browser: Any, key: str) -> None:
    browser.find_element("css selector", ".scatter").send_keys(key)


def test_the_recommended_trial_stands_out_with_reasons_and_runners_up(
    shown: Any, odd_study: StudyFolder
) -> None:
    info = study_info(odd_study)
    assert shown.execute_script(STAR) == []
    taken, *after = info["front"][-3:]
    why = ["<b>best</b> of all", "cheap"]
    found = {"number": taken, "reasons": why, "runners_up": after}
    shown.execute_script(
        "autosearch.update(arguments[0])", view_data([info | {"recommended": found}])
    )
    record = odd_study.trials.records()[taken]
    values = [pytest.approx(record.values[name], rel=1e-5) for name in ("gflops", "rwap")]
    assert shown.execute_script(STAR) == [["star", *values, taken]]
    assert title(shown) == f"Trial {taken}", "it is what a reader sees first"
    reasons = shown.find_elements("css selector", ".details .reasons li")
    assert [one.text for one in reasons] == why
    line = shown.find_element("css selector", ".recommended")
    assert line.text == (
        f"★ Recommended: trial {taken} . Next best: trial {after[0]} , trial {after[1]} ."
    ).replace(" .", ".").replace(" ,", ",")
    line.find_element("css selector", f"[data-recommended='{after[1]}']").click()
    assert title(shown) == f"Trial {after[1]}"
    assert "☆ next best" in shown.find_element("css selector", ".details h3").text
    press(shown, "r")
    assert title(shown) == f"Trial {taken}"
    filter_table(shown, "front")
    marks = {row[0]: row[1] for row in shown.execute_script(ROWS)}
    assert "★" in marks[str(taken)] and all("☆" in marks[str(n)] for n in after)
    assert sum("★" in mark or "☆" in mark for mark in marks.values()) == 3


def test_differences_are_said_with_their_share_and_which_is_better(shown: Any) -> None:
    cases = {
        "+0.1 (+25\u00a0%), better": [0.4, 0.5, "maximize"],
        "+0.1 (+25\u00a0%), worse": [0.4, 0.5, "minimize"],
        f"{LESS}1 ({LESS}25\u00a0%), better": [4, 3, "minimize"],
        "equal": [2, 2, "maximize"],
        "+1": [0, 1, ""],
        NONE: [None, 1, "maximize"],
    }
    said = "return arguments[0].map((one) => autosearch.compare.difference(...one))"
    assert shown.execute_script(said, [*cases.values()]) == [*cases]


def test_two_trials_stand_side_by_side(shown: Any, odd_study: StudyFolder) -> None:
    records, front = odd_study.trials.records(), study_info(odd_study)["front"]
    press(shown, "c")
    assert "Choose another one" in shown.find_element("css selector", ".kept").text
    press(shown, LEFT)
    one, two = records[front[-1]], records[front[-2]]
    parameters, values = shown.execute_script(SIDES)
    assert parameters[0] == ["parameter", f"trial {one.number}", f"trial {two.number}"]
    plain, other = (
        {name: "none" if value is None else str(value) for name, value in r.canonical.items()}
        for r in (one, two)
    )
    expected = [[n, plain[n], other[n]] for n in plain if plain[n] != other[n]]
    assert sorted(parameters[1:]) == sorted(expected) and len(expected) > 3
    equal = len(plain) - len(expected)
    card = shown.find_element("css selector", ".comparison")
    assert f"{equal} parameters are equal" in card.text
    assert values[0][1:] == [*parameters[0][1:], "difference"]
    rows = {row[0].split(" ")[0]: row[1:] for row in values[1:]}
    assert {"gflops", "rwap", "ap"} <= {*rows} and "search_gflops" not in rows
    assert "1 figure is equal" in card.text or "figures are equal" in card.text
    first, second, difference = rows["rwap"]
    assert [first, second] == [f"{r.values['rwap']:.4g}" for r in (one, two)]
    by = two.values["rwap"] - one.values["rwap"]
    assert difference.startswith(f"{LESS}{-by:.4g} ") and difference.endswith(", worse")
    pictures = card.find_elements("css selector", "img")
    names = [picture.get_attribute("alt") for picture in pictures]
    assert names == [f"Validation images of trial {r.number}" for r in (one, two)]
    places = [picture.rect for picture in pictures]
    assert places[0]["y"] == places[1]["y"] and places[0]["x"] < places[1]["x"]
    press(shown, "c")
    assert shown.execute_script(SIDES) == []


def test_a_second_trial_is_named_or_clicked_with_shift(shown: Any, odd_study: StudyFolder) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    front = study_info(odd_study)["front"]
    form = shown.find_element("css selector", ".comparison form")
    number = form.find_element("css selector", "input")
    number.send_keys("999\n")
    assert "There is no trial 999." in form.text and shown.execute_script(SIDES) == []
    number.clear()
    number.send_keys("1\n")
    assert "There is no" not in form.text
    assert shown.execute_script(SIDES)[0][0] == ["parameter", "trial 1", f"trial {front[-1]}"]
    filter_table(shown, "trial=2")
    row = shown.find_element("css selector", ".trials tbody td:nth-child(2)")
    ActionChains(shown).key_down("\ue008").click(row).key_up("\ue008").perform()
    heads = shown.execute_script(SIDES)[-1][0]
    assert heads[1:3] == ["trial 2", f"trial {front[-1]}"]
    wait_until(lambda: shown.find_elements("css selector", ".trials tr.kept"))
    # A trial that failed has no values, and no parameter is said to be equal that it lacks.
    failed = next(r for r in odd_study.trials.records() if r.status not in SCORED)
    number.clear()
    number.send_keys(f"{failed.number}\n")
    cells = [row[1] for row in shown.execute_script(SIDES)[1][1:]]
    assert set(cells) == {NONE}
    assert "No maps are kept" in shown.find_element("css selector", ".comparison").text


def test_an_address_brings_everything_back(shown: Any, odd_study: StudyFolder) -> None:
    front = study_info(odd_study)["front"]
    assert shown.execute_script(HASH) == "", "nothing was chosen yet"
    shown.execute_script(CHANGE, ".choose select", 1, "ap")
    shown.find_element("css selector", ".choose input[type=checkbox]").click()
    show_table(shown)
    shown.find_element("css selector", "[data-column=ap]").click()
    filter_table(shown, "front ap>0.2")
    shown.find_element("css selector", f"[aria-label='Show trial {front[-2]}']").click()
    press(shown, "c")
    press(shown, END)
    wait_until(lambda: f"trial={front[-1]}" in shown.execute_script(HASH))
    before = shown.execute_script(STATE)
    assert before[0] == "log" and before[4] == f"trial {front[-2]}"
    shown.refresh()
    show_table(shown)
    assert shown.execute_script(STATE) == before
    for part in ("y=ap", "logx=1", "sort=-ap", f"with={front[-2]}", "filter=front+ap>0.2"):
        assert part in shown.execute_script(HASH)


def test_the_back_button_leads_to_what_was_looked_at_before(
    shown: Any, odd_study: StudyFolder
) -> None:
    seen = [title(shown)]
    filter_table(shown, "complete")
    for n in (1, 3):
        shown.find_elements("css selector", ".trials tbody button")[n].click()
        seen.append(title(shown))
    shown.execute_script(CHANGE, ".choose select", 1, "ap")
    axis = "return document.querySelector('.scatter').layout.yaxis.title.text"
    assert shown.execute_script(axis).startswith("ap")
    shown.back()
    wait_until(lambda: shown.execute_script(axis).startswith("rwap"))
    for expected in seen[1::-1]:
        shown.back()
        wait_until(lambda expected=expected: title(shown) == expected)
    shown.forward()
    wait_until(lambda: title(shown) == seen[1])


def test_an_address_names_the_study_of_a_trial(shown: Any, odd_study: StudyFolder) -> None:
    info = study_info(odd_study)
    data = view_data([info, info | {"name": "b@c&d", "folder": "elsewhere"}])
    shown.execute_script("autosearch.update(arguments[0])", data)
    number = info["front"][0]
    for name in ("b@c&d", ODD):
        go = "location.hash = new URLSearchParams({trial: `${arguments[0]}@${arguments[1]}`})"
        shown.execute_script(go, number, name)
        wait_until(lambda name=name: title(shown) == f"Trial {number} of {name}")
    shown.execute_script("location.hash = 'trial=777'")
    told = "There is no trial 777 here."
    wait_until(lambda: told in shown.find_element("css selector", ".details").text)


def test_an_odd_address_changes_nothing(browser: Any, odd_report: Path) -> None:
    odd = ("x=constructor&y=<b>&logx=9&sort=-__proto__&trial=-1&with=99999&page=1e9&budget=-3"
           "&parameters=x&filter=%ff%00&keys=&study=x")  # fmt: skip
    browser.get(f"{odd_report.as_uri()}#{odd}")
    assert browser.execute_script("return document.querySelector('.scatter').layout.yaxis.title"
                                  ".text") == "rwap, higher is better"  # fmt: skip
    assert title(browser).startswith("Trial ")
    browser.execute_script("document.querySelector('input[type=search]').scrollIntoView()")
    wait_until(lambda: "0 trials" in browser.find_element("css selector", "#view").text)
    assert browser.get_log("browser") == []


def test_keys_act_but_not_while_somebody_writes(shown: Any, odd_study: StudyFolder) -> None:
    front = study_info(odd_study)["front"]
    box = shown.find_element("css selector", "dialog")
    press(shown, "?")
    assert box.is_displayed() and "walk along the Pareto front" in box.text
    shown.switch_to.active_element.send_keys(ESCAPE)
    assert not box.is_displayed()
    press(shown, HOME)
    assert title(shown) == f"Trial {front[0]}"
    press(shown, "/")
    field = shown.switch_to.active_element
    assert field.get_attribute("type") == "search"
    field.send_keys("c?r/")
    assert field.get_attribute("value") == "c?r/" and not box.is_displayed()
    assert shown.find_element("css selector", ".kept").text == ""
    shown.find_element("css selector", ".keys-button").click()
    box.find_element("css selector", "input").click()
    box.find_element("css selector", "button").click()
    press(shown, "c")
    assert shown.find_element("css selector", ".kept").text == "", "letters were turned off"
    wait_until(lambda: "keys=off" in shown.execute_script(HASH))


def test_notes_stand_in_the_page_as_text(shown: Any, odd_study: StudyFolder) -> None:
    info = study_info(odd_study)
    best = info["front"][-1]
    note = {"text": "<b>no</b>\nreally", "written": "2026-01-02T03:04:05+00:00"}
    data = view_data([info | {"notes": {str(best): note}}])
    shown.execute_script("autosearch.update(arguments[0])", data)
    block = shown.find_element("css selector", ".details p.note")
    assert block.text == note["text"] and "2026-01-02 03:04:05 UTC" in (
        shown.find_element("css selector", ".details").text
    )
    assert not shown.find_elements("css selector", ".details textarea"), "a report is only read"
    filter_table(shown, "really")
    (row,) = shown.execute_script(ROWS)
    assert row[0] == str(best) and "✎" in row[1]
