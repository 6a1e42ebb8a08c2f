"""The report as a file: what it holds, how large it becomes, and what no page can do."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_parts import CURVES, ODD, SPEND, filter_table, wait_until

from autosearch.cli.pages import report
from autosearch.contracts.trials import SCORED, Outcome, Status, TrialRecord
from autosearch.errors import ConfigError, StudyError
from autosearch.files import write_atomic
from autosearch.report import page as report_page
from autosearch.report.info import study_info, view_data
from autosearch.report.page import write_report
from autosearch.storage.folder import StudyFolder
from autosearch.storage.trial_store import TrialStore

MakeStudy = Callable[..., StudyFolder]


def test_the_page_can_reach_no_network(browser: Any, odd_report: Path) -> None:
    browser.get(odd_report.as_uri())
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


def test_repeated_studies_are_compared(
    browser: Any, make_study: MakeStudy, odd_study: StudyFolder, tmp_path: Path
) -> None:
    other = make_study(tmp_path / "second", 40, seed=1)
    browser.get(write_report([odd_study, other], tmp_path / "both.html").as_uri())
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
    odd_study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = view_data([study_info(odd_study)])
    front = data["studies"][0]["front"]
    everything = report_page._artifacts([odd_study], data["studies"])[ODD]
    assert [n for n in front if "maps.jpg" in everything[n]] == front
    size = len(everything[front[0]]["maps.jpg"])
    monkeypatch.setattr(report_page, "_PICTURES", 5 * size)
    kept = [n for n, files in report_page._artifacts([odd_study], data["studies"])[ODD].items()
            if "maps.jpg" in files]  # fmt: skip
    chosen = data["studies"][0]["recommended"]
    named = [chosen["number"], *chosen["runners_up"]] if chosen else []
    assert kept[: len(named)] == named[: len(kept)]
    places = [front.index(n) for n in kept if n not in named]
    assert 3 <= len(kept) <= 5
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


def test_details_link_to_galleries_that_lie_beside_the_report(
    browser: Any, make_study: MakeStudy, tmp_path: Path
) -> None:
    folder = make_study(tmp_path / "a #1", 12)
    other, number = [r.number for r in folder.trials.records() if r.status in SCORED][:2]
    names = [f"trial-{number}-test.html", f"trial-{number}-50%<b>?.html"]
    for name in (*names, f"trial-{number}0-test.html", f"ensemble-{number}+{other}-test.html"):
        write_atomic(folder.path / "galleries" / name, f"<title>{name}</title>")
    (folder.path / "galleries" / f"trial-{other}-folder.html").mkdir()
    part = (
        "return [...document.querySelectorAll('.details h4')]"
        ".find((one) => one.textContent === 'All its images').nextElementSibling.textContent"
    )
    beside = write_report([folder], folder.path / "report.html")
    elsewhere = write_report([folder], tmp_path / "report.html")

    def shown(report: Path, trial: int) -> str:
        browser.get("about:blank")
        browser.get(f"{report.as_uri()}#trial={trial}")
        return str(browser.execute_script(part))

    assert shown(beside, other).startswith("autosearch gallery ")
    assert f"--trial {other}" in shown(beside, other)
    assert f"--trial {number}" in shown(elsewhere, number)
    assert shown(beside, number) == "".join(sorted(names))
    links = browser.find_elements("css selector", ".galleries a")
    assert [link.text for link in links] == sorted(names)
    for place, name in enumerate(sorted(names)):
        shown(beside, number)
        browser.find_elements("css selector", ".galleries a")[place].click()
        wait_until(lambda name=name: name.partition("<")[0] in browser.title)
    assert browser.get_log("browser") == []


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
    filter_table(browser, "rwap>0.2")
    rows = browser.execute_script("return document.querySelectorAll('.trials tbody tr').length")
    assert rows <= 100, "the table shows a page, not everything"
    assert browser.get_log("browser") == []


def test_no_sign_in_the_data_ends_its_element(odd_study: StudyFolder, odd_report: Path) -> None:
    text = odd_report.read_text(encoding="utf-8")
    data, artifacts = (
        re.search(rf'id="{name}">(.*?)</script>', text, re.DOTALL)
        for name in ("data", "artifacts")
    )
    assert data is not None and "<" not in data[1]
    assert json.loads(data[1])["studies"][0]["name"] == ODD
    assert artifacts is not None and "<" not in artifacts[1]
    last = str(study_info(odd_study)["front"][-1])
    panels = json.loads(artifacts[1])[ODD][last]["curves.json"]["panels"]
    assert [panel["series"] for panel in panels] == [panel["series"] for panel in CURVES["panels"]]
