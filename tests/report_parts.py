"""A study full of markup, and what a browser does with the report of it."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from autosearch.contracts.trials import Outcome, Status
from autosearch.report.info import study_info
from autosearch.storage.folder import StudyFolder

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


def write_odd_study(make_study: Callable[..., StudyFolder], folder: Path) -> StudyFolder:
    """A study named `ODD`; the last of its front has figures of a test, curves and places."""
    made = make_study(folder / ODD, 80)
    last = study_info(made)["front"][-1]
    made.files.write_test(last, TEST_FIGURES)
    places = io.BytesIO()
    Image.new("RGB", (600, 300)).save(places, "JPEG")
    files = {"curves.json": json.dumps(CURVES).encode(), "locations.jpg": places.getvalue()}
    made.files.write_outcome(last, Outcome(Status.COMPLETE, artifacts=files))
    return made


def wait_until(ready: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            pytest.fail("the page did not get there")
        time.sleep(0.05)


def show_table(browser: Any) -> None:
    browser.execute_script("document.querySelector('input[type=search]').scrollIntoView()")
    wait_until(lambda: browser.execute_script(ROWS))


def filter_table(browser: Any, text: str) -> None:
    """Type a filter and wait until the table has taken it up."""
    show_table(browser)
    browser.execute_script("document.querySelector('.pages').remove()")
    browser.execute_script(
        "const input = document.querySelector('input[type=search]');"
        "input.value = arguments[0]; input.dispatchEvent(new Event('input'))",
        text,
    )
    wait_until(lambda: browser.find_elements("css selector", ".pages"))
