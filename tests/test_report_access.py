"""The page for everybody: contrast, names and roles by axe-core, every control by keyboard."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from report_parts import show_table, wait_until

# Charts are pictures to it, whose inner parts it could only guess at.
RUN = """
const [place, done] = arguments;
const what = {include: [place], exclude: [[".main-svg"]]};
axe.run(what, {preload: false, resultTypes: ["violations"]}).then(({violations}) => done(violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => [one.id, one.nodes.slice(0, 3).map((node) => node.target.join(" "))])), done);
"""
# Whatever can be seen and acts, but cannot be reached or does not show that it was.
CONTROLS = """
const seen = (one) => one.checkVisibility() && !one.disabled;
const all = [...document.querySelectorAll("button, input, select, textarea, summary, a, " +
  "[tabindex], .scroll")].filter(seen);
const bad = all.filter((one) => {
  one.focus();
  const {outlineStyle, outlineWidth} = getComputedStyle(one);
  return document.activeElement !== one || one.tabIndex < 0 || outlineStyle === "none" ||
    parseFloat(outlineWidth) < 2;
});
return [all.length, bad.map((one) => one.outerHTML.slice(0, 120))];
"""
DESKTOP = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


def show_all(browser: Any, report: Path) -> None:
    """A page with all of its parts drawn, opened up, and two trials side by side."""
    browser.get("about:blank")
    browser.get(f"{report.as_uri()}#with=1&parameters=1")
    for part in ("lost", "progress", "importance", "parallel"):
        browser.execute_script(f"document.querySelector('.{part}').scrollIntoView()")
        drawn = f"return document.querySelector('.{part} .main-svg') !== null"
        wait_until(lambda drawn=drawn: browser.execute_script(drawn))
    show_table(browser)
    browser.execute_script(
        "document.querySelectorAll('details').forEach((one) => one.open = true)"
    )


def complaints(browser: Any, place: str) -> Any:
    """Rules that a part of the page breaks seriously, and where."""
    browser.execute_script((files("axe_core_python") / "axe.min.js").read_text("utf-8"))
    return browser.execute_async_script(RUN, [place])


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", PHONE)])
def test_axe_finds_nothing_serious(
    browser: Any, odd_report: Path, scheme: str, size: dict[str, Any]
) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    show_all(browser, odd_report)
    assert complaints(browser, "html") == []
    browser.find_element("css selector", ".scatter").send_keys("?")
    assert complaints(browser, "dialog") == []
    browser.execute_script(
        "document.querySelector('dialog').close();"
        "const place = document.querySelector('.comparison');"
        "place.querySelector('h2').style.color = '#888'; place.style.background = '#999';"
        "place.append(document.createElement('select'))"
    )
    assert {found for found, _ in complaints(browser, ".comparison")} == {
        "color-contrast", "select-name",
    }, "it finds what is there to be found"  # fmt: skip


def test_every_control_can_be_reached_and_shows_it(browser: Any, odd_report: Path) -> None:
    show_all(browser, odd_report)
    browser.find_element("css selector", "input[type=search]").send_keys("\ue004")
    number, bad = browser.execute_script(CONTROLS)
    assert number > 50 and bad == []
