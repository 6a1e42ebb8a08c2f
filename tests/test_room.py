"""Trials that share the memory of a machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autosearch.errors import Infeasible
from autosearch.study.room import Room, available, size_text


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room(secrets.token_hex(8), 1000)
    yield made
    made.clear()


def hold(room: Room, needed: int, pipe: object) -> None:
    with room.held(needed):
        pipe.send("held")  # type: ignore[attr-defined]
        pipe.recv()  # type: ignore[attr-defined]


def other_process(room: Room, needed: int) -> tuple[multiprocessing.Process, object]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold, args=(room, needed, there))
    process.start()
    assert here.recv() == "held"
    return process, here


def test_what_fits_is_served_at_once(room: Room) -> None:
    with room.held(600) as first, room.held(400) as second:
        assert first < 0.5 and second < 0.5


def test_what_never_fits_is_infeasible_with_both_figures(room: Room) -> None:
    with (
        pytest.raises(Infeasible, match=r"about 2 kB of memory, and 1 kB are there"),
        room.held(2000),
    ):
        pass
    with room.held(1000):  # and it left nothing behind
        pass


def test_what_does_not_fit_beside_others_waits(room: Room) -> None:
    process, pipe = other_process(room, 700)
    threading.Timer(0.4, lambda: pipe.send("go")).start()  # type: ignore[attr-defined]
    with room.held(500) as waited:
        assert waited > 0.3
    process.join(5)


def test_first_come_first_served(room: Room) -> None:
    """A small one does not pass a large one that waits."""
    order: list[str] = []

    def one(name: str, needed: int) -> None:
        with room.held(needed):
            order.append(name)

    threads = []
    with room.held(600):
        for name, needed in (("large", 900), ("small", 200)):
            threads.append(threading.Thread(target=one, args=(name, needed)))
            threads[-1].start()
            time.sleep(0.2)
        assert order == []
    for thread in threads:
        thread.join(5)
    assert order == ["large", "small"]


def test_who_dies_holds_nothing(room: Room) -> None:
    process, _ = other_process(room, 1000)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(5)
    with room.held(1000) as waited:
        assert waited < 1


def test_an_error_while_waiting_leaves_the_queue(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        assert len(json.loads(room._path.read_text())["queue"]) == 2
        raise TimeoutError

    with room.held(900):
        with monkeypatch.context() as patch:
            patch.setattr(time, "sleep", interrupted)
            with pytest.raises(TimeoutError), room.held(900):
                pass
        assert len(json.loads(room._path.read_text())["queue"]) == 1
    assert json.loads(room._path.read_text())["queue"] == []


def test_a_damaged_file_is_begun_again(room: Room) -> None:
    room._path.write_text("{")
    with room.held(1000):
        pass


def test_clear_leaves_nothing(room: Room) -> None:
    with room.held(1):
        pass
    room.clear()
    assert not list(Path(room._path.parent).glob(f"{room._path.stem}*"))


def test_by_itself_it_takes_most_of_what_is_there() -> None:
    room = Room(secrets.token_hex(8))
    try:
        with room.held(1):
            total = json.loads(room._path.read_text())["total"]
        assert 0.5 * available() < total < available() * 1.2
    finally:
        room.clear()


def test_sizes_for_people() -> None:
    assert [size_text(s) for s in (12, 1500, 2.5e8, 19.3e9)] == [
        "12 B",
        "1.5 kB",
        "250 MB",
        "19.3 GB",
    ]
