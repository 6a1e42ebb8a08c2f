"""Notes on trials: how they are kept, by whom they are shown, and what is refused."""

import errno
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autosearch import cli
from autosearch.api import open_study
from autosearch.errors import ConfigError, StudyError
from autosearch.report.info import study_info
from autosearch.storage import notes
from autosearch.storage.database import Database, write_place
from autosearch.storage.folder import StudyFolder
from autosearch.storage.notes import LONGEST_NOTE, NOTES, read_notes, write_note

MakeStudy = Callable[..., StudyFolder]


@pytest.fixture
def study(make_study: MakeStudy, tmp_path: Path) -> StudyFolder:
    """A study of four trials."""
    return make_study(tmp_path / "one", 4)


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that succeeds; what it says."""

    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["autosearch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert not caught.value.code
        return capsys.readouterr().out

    return run


class TestFile:
    def test_a_note_is_kept_replaced_and_taken_away(self, tmp_path: Path) -> None:
        assert read_notes(tmp_path) == {}
        text = "  Straße, 傷 \N{WOMAN}\u200d\N{ROCKET}\r\nsecond\tline <b>\n"
        kept = write_note(tmp_path, 7, text)
        assert kept is not None
        assert kept.text == "Straße, 傷 \N{WOMAN}\u200d\N{ROCKET}\nsecond\tline <b>"
        write_note(tmp_path, 3, "other")
        assert [*read_notes(tmp_path)] == [3, 7] and read_notes(tmp_path)[7] == kept
        write_note(tmp_path, 7, "new")
        assert read_notes(tmp_path)[7].text == "new"
        assert write_note(tmp_path, 7, " \n ") is None
        assert [*read_notes(tmp_path)] == [3]
        assert [path.name for path in tmp_path.iterdir()] == [NOTES]

    @pytest.mark.parametrize(
        "text", ["a\x1b[31m", "a\0", "a\u202eb", "a\ud800", "a" * (LONGEST_NOTE + 1)]
    )
    def test_what_is_no_plain_text_is_refused(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigError, match=f"^note: .*at most {LONGEST_NOTE} characters"):
            write_note(tmp_path, 0, text)
        assert not (tmp_path / NOTES).exists()

    def test_writers_at_once_lose_nothing(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(8) as pool:
            done = [pool.submit(write_note, tmp_path, n, str(n)) for n in range(40)]
        assert all(one.result() for one in done)
        assert {n: note.text for n, note in read_notes(tmp_path).items()} == {
            n: str(n) for n in range(40)
        }

    @pytest.mark.parametrize(
        "content",
        ["{", "[]", '{"notes": {"a": 1}}', '{"notes": {"1": {"text": "", "written": ""}}}',
         '{"notes": {"1": {"text": "x"}}}', '{"notes": {}, "more": 1}'],
    )  # fmt: skip
    def test_a_damaged_file_is_named_and_never_replaced(
        self, tmp_path: Path, content: str
    ) -> None:
        (tmp_path / NOTES).write_text(content)
        for work in (lambda: read_notes(tmp_path), lambda: write_note(tmp_path, 1, "x")):
            with pytest.raises(StudyError, match=r"notes\.json: cannot be read") as caught:
                work()
            assert "\n" not in str(caught.value)
        assert (tmp_path / NOTES).read_text() == content

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "other.json").write_text('{"notes": {}}')
        (tmp_path / "mine" / NOTES).symlink_to(tmp_path / "other.json")
        with pytest.raises(StudyError, match="is a link"):
            write_note(tmp_path / "mine", 1, "x")

    def test_a_folder_that_cannot_be_written_to_is_told_in_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def closed(path: Path, content: str) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        monkeypatch.setattr(notes, "write_atomic", closed)
        with pytest.raises(StudyError, match=r"no note can be written here \(Read-only") as caught:
            write_note(tmp_path, 1, "x")
        assert "\n" not in str(caught.value)


def test_the_command_writes_lists_and_takes_away(
    study: StudyFolder, say: Callable[..., str]
) -> None:
    assert say("note", study.path) == "no note on this study\n"
    assert say("note", study.path, "sees [bold]dust[/]\ntoo", "--trial", "2") == (
        "trial 2 has a note\n"
    )
    listed = say("note", study.path)
    assert listed.startswith("trial 2\n  sees [bold]dust[/]\n  too\n  20")
    assert say("note", study.path, "--trial", "2") == listed
    assert say("note", study.path, "--trial", "1") == "no note on trial 1\n"
    assert "note\n  sees [bold]dust[/]\n  too\n" in say("show", study.path, "--trial", "2")
    shown = json.loads(say("show", study.path, "--trial", "2", "--json"))
    assert shown["note"]["text"] == "sees [bold]dust[/]\ntoo"
    assert "note" not in json.loads(say("show", study.path, "--trial", "1", "--json"))
    assert say("note", study.path, "", "--trial", "2") == "trial 2 has no note any more\n"
    assert open_study(study.path).notes == {}


def test_trials_that_there_are_not_have_no_notes(
    study: StudyFolder, refused: Callable[..., str]
) -> None:
    assert "no trial 4; there are 4" in refused(
        study.path, "note", study.path, "x", "--trial", "4"
    )
    assert "error: --trial: None" in refused(study.path, "note", study.path, "x")


def test_a_note_beside_a_database_is_said_to_be_here_alone(
    study: StudyFolder, say: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autosearch.api.stored.StoredStudy.in_database", True)
    said = say("note", study.path, "x", "--trial", "0")
    assert "trial 0 has a note\n" in said and "other heads do not see it" in said
    assert said.count("\n") == 2
    monkeypatch.undo()
    assert not open_study(study.path).in_database
    write_place(study.storage_path, Database("postgresql://u@h/d", "one"))
    assert open_study(study.path).in_database


def test_pages_have_the_notes_and_do_without_them(study: StudyFolder) -> None:
    kept = study.write_note(1, "mine")
    assert kept is not None
    assert study_info(study)["notes"] == {"1": {"text": "mine", "written": kept.written}}
    study.notes_path.write_text("{")
    info = study_info(study)
    assert info["notes"] == {} and len(info["trials"]["number"]) == 4
    assert any("notes.json: cannot be read" in text for text in info["warnings"])
