"""Homes that cannot be written to, as of service users and in sealed containers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autosearch.data import demo
from autosearch.errors import ConfigError
from autosearch.files import cache_dir, publish
from autosearch.storage.folder import StudyFolder


@pytest.fixture(params=["a file", "no such place"])
def closed(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache in a home where even root cannot write; few images, other temporary files."""
    home = tmp_path / "home"
    home.touch()
    monkeypatch.setenv("HOME", str(home) if request.param == "a file" else "/proc/home")
    for name in ("AUTOSEARCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TRAIN": 3, "TEST": 2, "PER_TYPE": 1}.items():
        monkeypatch.setattr(demo, name, value)
    places = tmp_path / "places"
    places.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(places))
    return places


def test_the_demo_goes_among_the_temporary_files(
    closed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = demo.demo_root(3)
    assert root.parent.parent == closed and root.parent.stat().st_mode & 0o777 == 0o700
    assert len(list(root.rglob("train/good/*.png"))) == 9
    (line,) = caplog.messages
    assert line == f"{cache_dir()} cannot be written to; the demo is made in {root.parent}"
    assert demo.demo_root(3) == root and len(caplog.messages) == 1


def test_a_folder_of_somebody_else_is_not_used(closed: Path) -> None:
    planted = closed / f"autosearch-demo-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    root = demo.demo_root()
    assert root.parent != planted and root.parent.parent == closed
    assert list(planted.iterdir()) == []


def test_what_must_be_cached_names_the_variable(closed: Path) -> None:
    path = cache_dir("weights") / "model"
    said = rf"AUTOSEARCH_CACHE: '{re.escape(str(cache_dir()))}' .*a folder that can be written to"
    with pytest.raises(ConfigError, match=said):
        publish(path, lambda temporary: temporary.write_bytes(b"x"))


def test_so_does_the_demo_where_nothing_can_be_written(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    with pytest.raises(ConfigError, match="set AUTOSEARCH_CACHE to one"):
        demo.demo_root()


def test_a_search_of_the_demo_runs_under_such_a_home(tmp_path: Path) -> None:
    known = {name: value for name, value in os.environ.items()
             if name not in ("AUTOSEARCH_CACHE", "XDG_CACHE_HOME")}  # fmt: skip
    space = "{width: 1.0, coreset_ratio: 0.1}"
    command = [
        Path(sys.executable).with_name("autosearch"), "run", "autopatch", "--trials=1",
        "--executor=local", f"--set=space={space}", "--set=dataset.image_size=64",
        "--set=backbone.weights=random",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=110,
        env={**known, "HOME": "/proc/home", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "/proc/home/.cache/autosearch cannot be written to; the demo is made in" in done.stderr
    (record,) = StudyFolder(tmp_path / "results" / "autopatch").trials.records()
    assert record.status == "complete"
