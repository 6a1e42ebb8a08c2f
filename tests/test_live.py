"""Studies as the dashboard reads them while they are written, and what it sends of them."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dash
import optuna
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from autosearch.report import live
from autosearch.report.dashboard import refresh
from autosearch.report.live import FollowedFolder, JournalReader, Library, Reading
from autosearch.storage.folder import StudyFolder
from autosearch.storage.optuna_study import STUDY
from autosearch.study.leases import LEASE_SECONDS

MakeStudy = Callable[..., StudyFolder]


@pytest.fixture(scope="module")
def written(make_study: MakeStudy, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study of 20 trials that no test changes."""
    return make_study(tmp_path_factory.mktemp("written") / "first", 20)


@pytest.fixture
def results(written: StudyFolder, tmp_path: Path) -> Path:
    """A folder with one study, `first`, which a test may change."""
    shutil.copytree(written.path, tmp_path / "results" / "first")
    return tmp_path / "results"


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read again at once; otherwise large studies and test figures wait their time."""
    monkeypatch.setattr(live, "_REST", 0.0)
    monkeypatch.setattr(live, "_TEST_SECONDS", 0.0)


@pytest.fixture
def library(results: Path) -> Library:
    return Library(results)


def add_trial(path: Path, gflops: float = 0.01, rwap: float = 0.99) -> int:
    """Ask for and tell one trial of a study on disk, as a search does."""
    folder = StudyFolder(path)
    study = optuna.load_study(study_name=STUDY, storage=folder.trials.storage())
    trial = study.ask()
    folder.load_spec().parsed_space.suggest(trial)
    trial.set_user_attr("status", "complete")
    study.tell(trial, [gflops, rwap])
    return trial.number


def look(library: Library, enough: Callable[[Reading], bool] = lambda reading: True) -> Reading:
    """The reading of the study `first` once all of it is read and it is as wanted."""
    for _ in range(100):
        reading = library.look(["first"]).get("first", Reading())
        if (reading.info or reading.problem) and enough(reading):
            return reading
        time.sleep(0.05)
    raise AssertionError(reading)


class TestReading:
    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(cuts=st.lists(st.floats(0, 1), max_size=4))
    def test_a_journal_read_while_it_grows_says_what_the_whole_one_says(
        self, written: StudyFolder, tmp_path: Path, cuts: list[float]
    ) -> None:
        content = written.journal_path.read_bytes()
        start = content.index(b"\n", content.index(b"directions")) + 1
        path = tmp_path / "study.journal"
        path.write_bytes(content[:start])
        folder = FollowedFolder(tmp_path)
        for cut in sorted(cuts):
            path.write_bytes(content[: max(start, round(cut * len(content)))])
            assert folder.trials.reader.continues()
            assert len(folder.trials.records()) <= 20
        path.write_bytes(content)
        assert folder.trials.records() == written.trials.records()

    def test_a_line_is_read_once(self, written: StudyFolder) -> None:
        reader = JournalReader(written.journal_path)
        lines = written.journal_path.read_bytes().count(b"\n")
        assert len(list(reader.read_logs(0))) == lines
        assert not list(reader.read_logs(lines))

    def test_nothing_can_be_written_through_it(self, results: Path) -> None:
        folder = FollowedFolder(results / "first")
        with pytest.raises(PermissionError):
            optuna.load_study(study_name=STUDY, storage=folder.trials.storage()).ask()

    def test_an_unchanged_study_is_not_read_again(self, library: Library) -> None:
        before = look(library)
        after = look(library)
        assert after.info is before.info and after.version == before.version

    def test_a_new_trial_is_seen(self, library: Library, results: Path) -> None:
        before = look(library)
        number = add_trial(results / "first")
        after = look(library, lambda reading: reading.version > before.version)
        assert after.counts["complete"] == before.counts["complete"] + 1
        assert after.info is not None and number in after.info["front"]

    def test_new_test_figures_are_seen(self, library: Library, results: Path) -> None:
        before = look(library)
        assert before.info is not None and not before.info["tests"]
        StudyFolder(results / "first").files.write_test(0, {"rwap": {"value": 0.5}})
        after = look(library, lambda reading: reading.version > before.version)
        assert after.info is not None and set(after.info["tests"]) == {"0"}

    def test_a_study_begun_anew_in_its_folder_is_read_anew(
        self, library: Library, results: Path, make_study: MakeStudy
    ) -> None:
        assert sum(look(library).counts.values()) == 20
        shutil.rmtree(results / "first")
        make_study(results / "first", 30, seed=5)
        assert sum(look(library, lambda r: r.budget == 30).counts.values()) == 30

    @pytest.mark.parametrize(
        "damage",
        [
            lambda journal: journal.write_bytes(b"\x00\xff garbage\n" * 3),
            lambda journal: journal.write_bytes(journal.read_bytes()[:500] + b"\n{}\n"),
            lambda journal: journal.write_bytes(journal.read_bytes()[3:]),
            lambda journal: journal.write_bytes(b""),
            lambda journal: journal.write_bytes(b"[1, 2]\n" * 9),
            lambda journal: (journal.parent / "spec.yaml").unlink(),
            lambda journal: (journal.parent / "spec.yaml").write_text("study: {name: ../x}"),
            lambda journal: (journal.parent / "meta.json").write_text("{"),
        ],
    )
    def test_a_damaged_study_says_so_until_it_is_whole_again(
        self, library: Library, results: Path, written: StudyFolder, damage: Callable[[Path], Any]
    ) -> None:
        look(library)
        damage(results / "first" / "study.journal")
        reading = look(library, lambda reading: reading.problem is not None)
        assert reading.state == "unreadable" and reading.info is None
        shutil.rmtree(results / "first")
        shutil.copytree(written.path, results / "first")
        assert look(library, lambda r: r.info is not None).problem is None

    def test_a_deleted_study_is_gone_and_stays_so(self, library: Library, results: Path) -> None:
        look(library)
        shutil.rmtree(results / "first")
        assert library.look(["first"]) == {}
        assert not (results / "first").exists()

    def test_running_trials_of_a_silent_journal_are_not_taken_for_a_search(
        self, library: Library, results: Path
    ) -> None:
        path = results / "first"
        assert look(library).state == "finished"
        (path / "spec.yaml").write_text(
            (path / "spec.yaml").read_text().replace("trials: 20", "trials: 40")
        )
        assert look(library, lambda reading: reading.budget == 40).state == "stopped"
        optuna.load_study(study_name=STUDY, storage=StudyFolder(path).trials.storage()).ask()
        assert look(library, lambda r: r.counts["running"] == 1).state == "running"
        aged = (path / "study.journal").stat().st_mtime - LEASE_SECONDS - 1
        os.utime(path / "study.journal", (aged, aged))
        assert look(library, lambda reading: reading.changed == aged).state == "stopped"

    def test_the_folder_of_one_study_will_do(
        self, results: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(results / "first")
        library = Library(Path())
        assert list(library.paths()) == ["first"]
        info = look(library).info
        assert info is not None and info["counts"]["complete"] > 0


class TestRefresh:
    def test_nothing_is_sent_twice(self, library: Library) -> None:
        look(library)
        listing, value, _, data, seen = refresh(library, ["first"], None)
        assert [study["name"] for study in listing["studies"]] == ["first"]
        assert listing["notes"] == [] and value is dash.no_update
        assert [study["name"] for study in data["studies"]] == ["first"]
        again = refresh(library, ["first"], seen)
        assert [part is dash.no_update for part in again] == [True, True, False, True, True]

    def test_news_are_sent(self, library: Library, results: Path) -> None:
        version = look(library).version
        seen = refresh(library, ["first"], None)[-1]
        add_trial(results / "first")
        look(library, lambda reading: reading.version > version)
        listing, value, _, data, now = refresh(library, ["first"], seen)
        assert len(data["studies"][0]["trials"]["number"]) == 21
        assert listing["studies"][0]["told"].startswith("21 of 20 trials")
        assert now != seen and value is dash.no_update

    def test_a_server_begun_anew_sends_what_its_predecessor_did_not(
        self, library: Library, results: Path
    ) -> None:
        look(library)
        seen = refresh(library, ["first"], None)[-1]
        add_trial(results / "first")
        successor = Library(results)
        look(successor)
        data = refresh(successor, ["first"], seen)[3]
        assert len(data["studies"][0]["trials"]["number"]) == 21

    def test_the_study_written_to_last_is_chosen_at_first(
        self, library: Library, results: Path
    ) -> None:
        shutil.copytree(results / "first", results / "zero")
        os.utime(results / "zero" / "study.journal", (1, 1))
        assert refresh(library, None, None)[1] == ["first"]
        os.utime(results / "first" / "study.journal", (0, 0))
        assert refresh(library, None, None)[1] == ["zero"]

    def test_deselecting_everything_is_respected(self, library: Library) -> None:
        _, value, _, data, _ = refresh(library, [], None)
        assert value is dash.no_update and data["studies"] == []

    def test_studies_appear_and_disappear(self, library: Library, results: Path) -> None:
        look(library)
        seen = refresh(library, ["first"], None)[-1]
        (results / "first").rename(results / "second")
        listing, _, _, data, _ = refresh(library, ["first"], seen)
        assert [study["name"] for study in listing["studies"]] == ["second"]
        assert "no longer there" in listing["notes"][0] and data["studies"] == []

    def test_an_empty_folder_says_what_to_do(self, tmp_path: Path) -> None:
        listing, value, *_ = refresh(Library(tmp_path), None, None)
        assert listing["studies"] == [] and value is dash.no_update
        assert "autosearch run" in listing["notes"][0]

    def test_names_that_no_study_has_are_told_and_nothing_else(self, library: Library) -> None:
        chosen = ["../results/first", "/etc", "<script>alert(1)</script>"]
        listing, _, _, data, _ = refresh(library, chosen, None)
        assert len(listing["notes"]) == 3 and data["studies"] == []
