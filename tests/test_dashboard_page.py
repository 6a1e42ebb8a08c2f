"""The dashboard's page: what a browser shows, and what a running server answers."""

import http.client
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from autosearch.report.dashboard import DEFAULT_PORT
from autosearch.storage.folder import StudyFolder


@pytest.fixture(scope="module")
def written(
    make_study: Callable[..., StudyFolder], tmp_path_factory: pytest.TempPathFactory
) -> StudyFolder:
    """A study of 20 trials that no test changes."""
    return make_study(tmp_path_factory.mktemp("written") / "first", 20)


START = "import typer; from autosearch.cli.pages import dashboard; typer.run(dashboard)"


def start(directory: Path, log: Path, *options: str) -> tuple["subprocess.Popen[bytes]", int]:
    """A dashboard in a process of its own, and the port it says it has."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(directory), *options], stdout=out, stderr=out
        )
    for _ in range(600):
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/", log.read_text()):
            return process, int(found[1])
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    process.kill()
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def served(
    written: StudyFolder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, int]]:
    """A running dashboard: its folder, in which every test makes what it needs, and its port."""
    folder = tmp_path_factory.mktemp("served") / "results"
    shutil.copytree(written.path, folder / "base")
    log = folder.parent / "log.txt"
    with socket.socket() as taken:
        # Where that fails somebody else has the first port, which serves as well.
        with suppress(OSError):
            taken.bind(("127.0.0.1", DEFAULT_PORT))
            taken.listen()
        process, port = start(folder, log)
    assert port > DEFAULT_PORT
    yield folder, port
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (0, 130)
    assert log.read_text().count("\n") == 1, "nothing but the address was printed"


class Page:
    """The dashboard in a browser, as its users see it."""

    def __init__(self, browser: Any, port: int, asked: str = "") -> None:
        self.browser = browser
        browser.get(f"http://127.0.0.1:{port}/{asked}")
        self.until(lambda: self.texts("#studies .study"))

    def until(self, happens: Callable[[], Any]) -> Any:
        """What `happens` says once it says something."""
        deadline = time.monotonic() + 60
        while not (found := happens()):
            assert time.monotonic() < deadline, self.browser.find_element("tag name", "body").text
            time.sleep(0.1)
        return found

    def texts(self, selector: str) -> list[str]:
        """The visible text of all elements at once, as the page may change between two."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)"
        found: list[str] = self.browser.execute_script(script, selector)
        return found

    def choose(self, *names: str) -> None:
        """Tick these studies and no other one, and wait for them to be drawn."""
        for box in self.browser.find_elements("css selector", "#studies input"):
            if box.is_selected() != (box.get_attribute("value") in names):
                box.click()
        self.until(lambda: set(names) <= self.drawn() if names else not self.drawn())

    def drawn(self) -> set[str]:
        """Names of the studies whose trials stand in the scatter plot."""
        return {trace["meta"] for trace in self.traces() if trace.get("meta")}

    def traces(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.browser.execute_script(
            "const chart = document.querySelector('#view:not([hidden]) .scatter');"
            "return (chart && chart.data || []).map(({x, meta}) => ({x: [...x], meta}))"
        )
        return found

    def points(self) -> set[float]:
        """GFLOPs of all points in the scatter plot, as `rounded` has them."""
        return {round(x, 3) for trace in self.traces() for x in trace["x"] if x is not None}

    def ranges(self) -> list[list[float]]:
        found: list[list[float]] = self.browser.execute_script(
            "const {xaxis, yaxis} = document.querySelector('.scatter')._fullLayout;"
            "return [[...xaxis.range], [...yaxis.range]]"
        )
        return found

    def select(self, number: str) -> None:
        """Click a trial in the table, which is drawn once it comes into sight."""
        self.browser.execute_script("document.querySelector('#view > div').scrollIntoView(false)")
        button = f".trials [aria-label='Show trial {number}']"
        find = self.browser.find_elements
        self.until(lambda: find("css selector", button))[0].click()

    def complaints(self) -> list[Any]:
        return list(self.browser.get_log("browser"))


def rounded(folder: StudyFolder) -> set[float]:
    """GFLOPs of all trials that have a value; the page gets six digits of each."""
    return {
        round(record.values["gflops"], 3) for record in folder.trials.records() if record.values
    }


class TestPage:
    def test_trials_are_drawn(
        self, served: tuple[Path, int], browser: Any, written: StudyFolder
    ) -> None:
        page = Page(browser, served[1])
        page.choose("base")
        expected = rounded(written)
        assert page.points() == expected
        assert any(text.startswith("base") for text in page.texts("#studies .study"))
        assert page.complaints() == []

    def test_the_study_that_an_address_names_is_in_sight(
        self, browser: Any, written: StudyFolder, tmp_path: Path
    ) -> None:
        names = [f"study-{number:02}" for number in range(20)]
        for name in names:
            shutil.copytree(written.path, tmp_path / "results" / name)
        process, port = start(tmp_path / "results", tmp_path / "log.txt")
        try:
            for named in (names[0], names[-1]):
                browser.get("about:blank")
                page = Page(browser, port, f"#study={named}")
                page.until(lambda page=page, name=named: page.drawn() == {name})
                seen = browser.execute_script(
                    "const list = document.querySelector('#studies').getBoundingClientRect();"
                    "const box = document.querySelector(`#studies [value='${arguments[0]}']`);"
                    "const { top, bottom } = box.parentElement.getBoundingClientRect();"
                    "return top >= list.top - 1 && bottom <= list.bottom + 1",
                    named,
                )
                assert seen, named
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)

    def test_new_trials_come_without_disturbing_zoom_and_selection(
        self, served: tuple[Path, int], browser: Any, written: StudyFolder
    ) -> None:
        shutil.copytree(served[0] / "base", served[0] / "growing")
        journal = served[0] / "growing" / "study.journal"
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:-6]))
        page = Page(browser, served[1])
        page.choose("growing")
        chart = browser.find_element("css selector", ".scatter")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
        before = page.ranges()
        webdriver = pytest.importorskip("selenium.webdriver")
        drag = webdriver.ActionChains(browser).move_to_element_with_offset(chart, -120, -60)
        drag.click_and_hold().move_by_offset(200, 120).release().perform()
        page.until(lambda: page.ranges() != before)
        page.select("3")
        selected = page.until(lambda: page.texts(".details h3, .details h2"))
        assert selected[0].startswith("Trial 3 ")
        zoomed = page.ranges()

        with journal.open("ab") as file:
            file.write(b"".join(lines[-6:]))
        expected = rounded(written)
        page.until(lambda: page.points() == expected)
        page.until(lambda: "20 of 20 trials" in str(page.texts("#studies .study")))
        assert page.ranges() == zoomed
        assert page.texts(".details h3, .details h2") == selected
        assert page.complaints() == []

    def test_studies_come_and_go_and_leave_a_message(
        self, served: tuple[Path, int], browser: Any
    ) -> None:
        shutil.copytree(served[0] / "base", served[0] / "passing")
        page = Page(browser, served[1])
        page.choose("base", "passing")
        shutil.copytree(served[0] / "base", served[0] / "arriving")
        page.until(lambda: any(text.startswith("arr") for text in page.texts("#studies .study")))
        shutil.rmtree(served[0] / "passing")
        page.until(lambda: any("passing" in text for text in page.texts("#notes p")))
        page.until(lambda: page.drawn() == {"base"})
        assert not any(text.startswith("passing") for text in page.texts("#studies .study"))
        assert page.complaints() == []

    def test_a_note_is_kept_and_shown_to_the_next_reader(
        self, served: tuple[Path, int], browser: Any
    ) -> None:
        shutil.copytree(served[0] / "base", served[0] / "noted")
        page = Page(browser, served[1])
        page.choose("noted")
        page.select("3")
        field = browser.find_element("css selector", ".details textarea")
        field.send_keys("misses <b>dust</b>")
        assert "Not kept yet" in browser.find_element("css selector", ".note-block").text
        browser.find_element("css selector", ".note-block button").click()
        page.until(lambda: StudyFolder(served[0] / "noted").load_notes())
        page.until(lambda: any("Written 20" in text for text in page.texts(".note-block")))
        browser.refresh()
        page.until(lambda: page.drawn() == {"noted"})
        value = "return document.querySelector('.details textarea')?.value"
        page.until(lambda: browser.execute_script(value) == "misses <b>dust</b>")
        assert page.texts(".details h3")[0].startswith("Trial 3 ")
        assert page.complaints() == []
        shutil.rmtree(served[0] / "noted")

    def test_an_address_names_the_chosen_studies(
        self, served: tuple[Path, int], browser: Any
    ) -> None:
        name = "a&b=c #1"
        shutil.copytree(served[0] / "base", served[0] / name)
        page = Page(browser, served[1])
        page.choose("base")
        page.choose(name, "base")
        address = browser.current_url
        browser.back()
        page.until(lambda: page.drawn() == {"base"})
        browser.get("about:blank")
        browser.get(address)
        page.until(lambda: page.drawn() == {"base", name})
        assert page.complaints() == []
        shutil.rmtree(served[0] / name)

    @pytest.mark.parametrize(
        "name", ["<img src=x onerror=window.hit=1>", "..'\"><script>window.hit=1<!--%2e%2e&#x41;"]
    )
    def test_odd_names_are_text(self, served: tuple[Path, int], browser: Any, name: str) -> None:
        shutil.copytree(served[0] / "base", served[0] / name)
        page = Page(browser, served[1])
        page.choose(name)
        assert any(text.startswith(name) for text in page.texts("#studies .study"))
        number = next((served[0] / name / "trials").glob("*/maps.jpg")).parent.name
        page.select(number)
        loaded = "return [...document.querySelectorAll('.details img')].some(i => i.naturalWidth)"
        page.until(lambda: browser.execute_script(loaded))
        assert browser.execute_script("return window.hit === undefined")
        assert page.complaints() == []
        shutil.rmtree(served[0] / name)

    def test_curves_and_places_are_fetched_when_they_are_looked_at(
        self, served: tuple[Path, int], browser: Any
    ) -> None:
        shutil.copytree(served[0] / "base", served[0] / "trained")
        number = next((served[0] / "trained" / "trials").glob("*/maps.jpg")).parent.name
        folder = served[0] / "trained" / "trials" / number
        panel = {"title": "loss", "series": {"inner": [2, 1, 0.5], "outer": [3, None, 1]}}
        (folder / "curves.json").write_text(json.dumps({"x": "epoch", "panels": [panel] * 2}))
        picture = io.BytesIO()
        Image.new("RGB", (321, 100)).save(picture, "JPEG")
        (folder / "locations.jpg").write_bytes(picture.getvalue())
        page = Page(browser, served[1])
        page.choose("trained")
        page.select(number)
        drawn = (
            "return [...document.querySelectorAll('.curve')].map((c) => c.data.map((t) => t.y))"
        )
        series = list(panel["series"].values())
        page.until(lambda: browser.execute_script(drawn) == [series] * 2)
        widths = "return [...document.querySelectorAll('.details img')].map((i) => i.naturalWidth)"
        browser.execute_script("document.querySelector('[alt^=Places]').scrollIntoView()")
        page.until(lambda: 321 in browser.execute_script(widths))
        assert page.complaints() == []
        shutil.rmtree(served[0] / "trained")

    @pytest.mark.parametrize(
        "path",
        [
            "/artifact?study=base&number=0&name=..%2f..%2fspec.yaml",
            "/artifact?study=base%2f..%2fbase&number=0&name=maps.jpg",
            "/artifact/..%2f..%2fspec.yaml",
            "/..%2f..%2f..%2f..%2fetc/passwd",
            "/assets/..%2fdashboard.py",
            "/assets/%2fetc%2fpasswd",
            "//etc/passwd",
            "/_dash-component-suites/dash/..%2f..%2fspec.yaml",
        ],
    )
    def test_a_socket_gets_no_further_than_a_browser(
        self, served: tuple[Path, int], path: str
    ) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served[1], timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 404
        assert b"study:" not in answer.read()
        connection.close()

    @pytest.mark.parametrize(
        "content",
        [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
         b"GET http://[/ HTTP/1.1\r\nHost: {}\r\n\r\n", b"GET /" + b"a" * 70_000,
         b"GET / HTTP/1.1\r\nHost: {}\r\nHost: evil.example\r\n\r\n",
         b"CONNECT evil.example:80 HTTP/1.1\r\nHost: {}\r\n\r\n",
         b"GET http://evil.example/ HTTP/1.1\r\nHost: {}\r\n\r\n",
         b"POST /_dash-update-component HTTP/1.1\r\nHost: {}\r\nContent-Length: -5\r\n\r\n{}",
         b"POST /_dash-update-component HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json"
         b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
        ids=range(10),
    )  # fmt: skip
    def test_what_is_no_request_is_refused(self, served: tuple[Path, int], content: bytes) -> None:
        """Nothing is printed either; see `served`."""
        host = f"127.0.0.1:{served[1]}".encode()
        with socket.create_connection(("127.0.0.1", served[1]), timeout=20) as connection:
            connection.sendall(content.replace(b"{}", host, 1))
            answer = connection.recv(1000)
        assert re.match(rb"(HTTP/1\.\d [45]|<!DOCTYPE HTML>)", answer), answer


@pytest.mark.slow
def test_a_page_outlives_its_server(written: StudyFolder, tmp_path: Path, browser: Any) -> None:
    process, port = start(written.path, tmp_path / "first.txt")
    page = Page(browser, port)
    page.until(lambda: page.points() == rounded(written))
    assert page.texts("#silent:not([hidden])") == []
    process.terminate()
    process.wait(20)
    page.until(lambda: page.texts("#silent:not([hidden])"))
    process, _ = start(written.path, tmp_path / "second.txt", "--port", str(port))
    page.until(lambda: not page.texts("#silent:not([hidden])"))
    assert page.points() == rounded(written)
    process.terminate()
    process.wait(20)
