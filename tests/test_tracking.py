"""Trackers are told of every trial once, and hold up nobody: with one that can do all wrong."""

import importlib.util
import time
from pathlib import Path

import pytest
from dataset_parts import command, sound_dataset
from tracking_parts import LOSS, Told, finished, open_driver, records, work

import autosearch
from autosearch.errors import ConfigError, StudyError
from autosearch.spec.reading import parse_spec
from autosearch.storage.folder import StudyFolder
from autosearch.tracking import choice, sender, tracking as module
from autosearch.tracking.content import Contents, Curve
from autosearch.tracking.rest import send_rest
from autosearch.tracking.sent import Sent
from autosearch.tracking.tracking import Tracking


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_FIRST_PAUSE", 0.01)


def search(path: Path, tracker: Told, said: list[str], trials: int = 3) -> Tracking:
    """A search whose trials a tracker is told of, up to where it is over."""
    tracking = Tracking(StudyFolder(path), [tracker], said.append)
    driver = open_driver(path, tracking.told, trials)
    tracking.start()
    work(driver)
    driver.close()
    return tracking


def test_a_trial_is_told_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    folder = finished(tmp_path / "fake")
    first, failed, _ = folder.trials.records()
    contents = Contents(folder, "id")
    trial = contents.trial(first)
    assert trial.params == first.params and trial.name == "trial 0"
    x = first.params["x"]
    expected = {"cost": x, "score": -x, "extra": x / 2, "seconds/fit": 0.5}
    assert expected.items() <= trial.values.items()
    assert "odd" not in trial.values and trial.seconds == trial.values["seconds/trial"]
    assert set(trial.files) == {"maps.png", "curves.json"}
    assert trial.curves == (
        Curve(
            "while training", "percent of training", {"cost": [(50, 1.0)], "score": [(50, 2.0)]}
        ),
        Curve("loss", "epoch", {"l2": [(1, LOSS[0]), (2, LOSS[1]), (4, LOSS[3])]}),
    )
    shared = {"autosearch.study": "id", "autosearch.version": "0.1.0", "data": "tiles",
              "category": "grey", "data_sha256": "d" * 64,
              "weights_sha256.net_1": "e" * 64}  # fmt: skip
    assert trial.tags == {**shared, "status": "complete"}
    other = contents.trial(failed)
    assert other.tags == {**shared, "status": "failed", "reason": "no luck\nat all"}
    assert other.values == {"seconds/trial": failed.duration} and not other.files


def test_a_study_is_told_with_the_best_of_its_trials(tmp_path: Path) -> None:
    folder = finished(tmp_path / "fake")
    costs = [record.values["cost"] for record in folder.trials.records() if record.values]
    study = Contents(folder, "id").study()
    assert study.values == {
        "trials/complete": 2, "trials/failed": 1, "trials/infeasible": 0, "trials/pruned": 0,
        "trials/running": 0, "trials/cached": 0, "trials/front": 1,
        "best/cost": min(costs), "best/score": -min(costs),
    }  # fmt: skip
    assert study.params["study.trials"] == 3 and study.params["objectives"] == "cost, score"
    assert set(study.files) == {"spec.yaml", "meta.json", "pareto.csv"} and study.name == "fake"


def test_a_search_tells_each_trial_once_and_resuming_tells_the_rest(
    tmp_path: Path, told: Told
) -> None:
    said: list[str] = []
    search(tmp_path, told, said, trials=3).close("finished")
    assert told.numbers == [0, 1, 2] and told.calls == ["open", *["send"] * 3, "close finished"]
    assert Sent(StudyFolder(tmp_path)).runs("told", "here") == {n: f"run-{n}" for n in range(3)}
    assert told.study.values["trials/complete"] == 2
    again = Told()
    search(tmp_path, again, said, trials=5).close("stopped")
    assert again.numbers == [3, 4] and again.calls[-1] == "close stopped"
    assert again.study.id == told.study.id and said == []


def test_of_many_trials_those_that_are_there_leave_room_for_others(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MOST_WAITING", 2)
    said: list[str] = []
    send_rest(finished(tmp_path, trials=4), [told])
    again, later = Told(), Told()
    search(tmp_path, again, said, trials=5).close("finished")
    assert again.numbers == [4]
    search(tmp_path, later, said, trials=5).close("finished")
    assert later.calls == ["open", "close finished"] and said == []


def test_a_driver_tells_only_its_own_trials(tmp_path: Path) -> None:
    mine, its = [], []
    one = open_driver(tmp_path, mine.append, trials=4)
    other = open_driver(tmp_path, its.append, trials=4)
    work(one, 1)
    work(other, 2)
    work(one)
    assert [record.number for record in mine] == [0, 3]
    assert [record.number for record in its] == [1, 2]


def test_one_that_is_away_is_said_once_and_gets_all_later(tmp_path: Path, told: Told) -> None:
    said: list[str] = []
    told.failing = 10**6
    tracking = Tracking(StudyFolder(tmp_path), [told], said.append)
    driver = open_driver(tmp_path, tracking.told, 4)
    tracking.start()
    work(driver, 2)
    deadline = time.monotonic() + 10
    while told.calls.count("open") < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    work(driver)
    driver.close()
    assert said == ["told (here) cannot be told of trials for now: ConnectionError: nobody is"]
    tracking.close("finished")
    assert said[1:] == [
        "told (here): 4 of 4 trials are not there (ConnectionError: nobody is); all is stored "
        f"here; to send it: autosearch track {tmp_path}"
    ]
    assert len(records(tmp_path)) == 4
    told.failing, told.calls = 0, []
    assert send_rest(StudyFolder.open(tmp_path), [told]) == {"told": 4}
    assert send_rest(StudyFolder.open(tmp_path), [told]) == {"told": 0}
    assert told.numbers == [0, 1, 2, 3] and told.calls.count("close finished") == 2


def test_one_that_fails_once_has_all_in_the_end(tmp_path: Path, told: Told) -> None:
    said: list[str] = []
    told.failing = 1
    search(tmp_path, told, said).close("finished")
    assert sorted(told.numbers) == [0, 1, 2] and told.calls[-1] == "close finished"
    assert not [text for text in said if "not there" in text]


def test_one_that_hangs_holds_up_nobody(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.3)
    monkeypatch.setattr(module, "_QUIET_SECONDS", 0.1)
    monkeypatch.setattr(sender, "MOST_WAITING", 2)
    said: list[str] = []
    told.answering.clear()
    start = time.monotonic()
    tracking = search(tmp_path, told, said, trials=6)
    tracking.close("finished")
    assert time.monotonic() - start < 10
    assert said[0] == "waiting for told (here), 0.3 s at most …"
    assert "6 of 6 trials are not there (it took too long)" in said[1]
    told.answering.set()
    (sending,) = tracking._senders
    assert sending.wait(time.monotonic() + 10)
    assert len(told.trials) <= 1, "after the end nothing more is sent"


def test_what_is_told_before_the_start_waits_for_it(tmp_path: Path, told: Told) -> None:
    tracking = Tracking(StudyFolder(tmp_path), [told], [].append)
    work(open_driver(tmp_path, tracking.told))
    assert told.calls == []
    tracking.start()
    tracking.close("finished")
    assert told.numbers == [0, 1, 2]


def test_a_tracker_that_fails_later_is_a_line(tmp_path: Path, told: Told) -> None:
    folder = finished(tmp_path / "fake")
    told.failing = 1
    with pytest.raises(StudyError, match=r"told \(here\): 0 of 3 trials sent, then Connection"):
        send_rest(folder, [told])
    assert send_rest(folder, [told]) == {"told": 3}


def test_what_was_sent_survives_half_a_line(tmp_path: Path) -> None:
    folder = finished(tmp_path / "fake")
    sent, path = Sent(folder), folder.path / "tracking.jsonl"
    name = sent.study_id()
    sent.add("mlflow", "a", 0, "r0")
    with path.open("a") as file:
        file.write('{"tracker": "mlflow", "to": "a", "trial": 1, "ru')
    sent.add("mlflow", "a", 2, "r2")
    sent.add("mlflow", "b", 3, "r3")
    assert Sent(folder).runs("mlflow", "a") == {0: "r0", 2: "r2"}
    assert Sent(folder).study_id() == name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="cannot be written"):
        Sent(folder).add("mlflow", "a", 4, "r4")


@pytest.mark.parametrize(
    ("name", "to", "package"),
    [("mlflow", "http://x:5000", "mlflow-skinny"), ("wandb", "a", "wandb"),
     ("tensorboard", "tb", "tensorboardX")],
)  # fmt: skip
def test_a_missing_package_is_one_line(
    name: str, to: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    wanted = parse_spec({**_small(), "tracking": {name: to}})
    with pytest.raises(ConfigError) as refused:
        choice.chosen(wanted.tracking, tmp_path)
    line = f"tracking.{name}: '{to}' is not allowed; expected null, or the package {package}: "
    assert str(refused.value) == f"{line}pip install 'autosearch[{name}]'"


@pytest.mark.parametrize(
    ("key", "value"),
    [("mlflow", "https://me:secret@host/x"), ("mlflow", "postgresql://me:se/cret@host/x"),
     ("mlflow", "postgresql://host/x?user=me&password=secret"), ("mlflow", "mlruns"),
     ("mlflow", ""), ("wandb", "a/b/c"), ("wandb", ""), ("tensorboard", ""), ("comet", "x")],
)  # fmt: skip
def test_what_no_tracker_understands_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_spec({**_small(), "tracking": {key: value}})
    assert str(refused.value).startswith(f"tracking.{key}")
    assert "cret" not in str(refused.value)


def test_trackers_are_no_part_of_what_a_study_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = parse_spec(_small())
    uris = {"mlflow": "sqlite:///m.db", "tensorboard": "tb", "wandb": "me/mine"}
    spec = choice.settled(parse_spec({**_small(), "tracking": uris}))
    assert spec.content_hash() == plain.content_hash()
    assert spec.tracking.mlflow == f"sqlite:///{tmp_path}/m.db"
    assert spec.tracking.tensorboard == str(tmp_path / "tb")
    assert [one.name for one in choice.chosen(spec.tracking, tmp_path)] == [
        "mlflow", "wandb", "tensorboard"
    ]  # fmt: skip
    assert choice.chosen(plain.tracking, tmp_path) == []
    assert choice.absolute(plain.tracking) == plain.tracking


def test_the_command_sends_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(tmp_path / "fake")
    place = tmp_path / "tb"
    for line in ("tensorboard: 3 trials sent", "tensorboard: has all trials"):
        assert command(capsys, "track", folder.path, "--tensorboard", place) == (0, line)
    assert len(list(place.glob("fake-*/trial-*"))) == 3
    code, line = command(capsys, "track", folder.path)
    assert code == 2 and "tracking: 'nothing' is not allowed; expected a tracker" in line


def test_a_whole_search_is_tracked_and_so_is_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = {
        "dataset.root": str(sound_dataset(tmp_path / "part")), "dataset.image_size": 32,
        "dataset.category": "part",
        "backbone.weights": "random", "tracking.tensorboard": "tb",
        "space": {"width": 1.0, "stage0.extraction_block": 1, "stage0.patch_size": [1, 2]},
    }  # fmt: skip
    options = {"trials": 2, "name": "t", "executor": "local", "resume": True}
    study = autosearch.search("autopatch", tiny, **options)
    assert len(list(tmp_path.glob("tb/t-*/trial-*"))) == 2
    study.resume(3, executor="local")
    assert len(list(tmp_path.glob("tb/t-*/trial-*"))) == 3
    assert study.spec.tracking.tensorboard == str(tmp_path / "tb")
    assert '"tracking"' not in (study.path / "study.log").read_text(), "no warning"


def _small() -> dict[str, object]:
    return {
        "study": {"name": "a", "runner": "fake"},
        "space": {"x": [1, 2]},
        "objectives": ["cost"],
    }
