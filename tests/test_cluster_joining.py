"""Which cluster is joined, and what of its machines a trial takes; no node is started."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from ray_parts import fake_spec, run_fake

from autosearch.errors import ConfigError, StudyError
from autosearch.executors import ray_cluster
from autosearch.executors.address import chosen_address
from autosearch.executors.ray_tune import RayTuneExecutor
from autosearch.executors.signals import stopping_on_signals
from autosearch.spec.sections import ResourceSpec
from autosearch.storage.folder import StudyFolder


class TestShare:
    """Machines are made up; Ray is asked about real ones elsewhere."""

    @pytest.mark.parametrize(
        ("machines", "resources", "demand", "slots"),
        [
            ([{"CPU": 2}], {}, {"cpu": 1, "gpu": 0}, 2),
            ([{"CPU": 8, "GPU": 1}], {}, {"cpu": 1, "gpu": 0.25}, 4),
            ([{"CPU": 4}, {"CPU": 8, "GPU": 2}], {}, {"cpu": 1, "gpu": 0.25}, 8),
            ([{"CPU": 4}, {"CPU": 8, "GPU": 2}], {"gpu": 0}, {"cpu": 1, "gpu": 0}, 12),
            # Two of 0.4 fit on a GPU, though both GPUs together would hold five.
            ([{"CPU": 8, "GPU": 2}], {"gpu": 0.4}, {"cpu": 1, "gpu": 0.4}, 4),
            ([{"CPU": 64, "GPU": 1}], {"gpu": 0.1}, {"cpu": 1, "gpu": 0.1}, 10),
            ([{"CPU": 8, "GPU": 5}], {"gpu": 2}, {"cpu": 1, "gpu": 2}, 2),
            # Three and three are six cores, but no machine has more than three.
            ([{"CPU": 3}, {"CPU": 3}], {"cpu": 2}, {"cpu": 2, "gpu": 0}, 2),
            ([{"CPU": 3, "GPU": 1}], {"cpu": 0.5, "gpu": 0}, {"cpu": 0.5, "gpu": 0}, 6),
            ([{"CPU": 2}], {"max_concurrent": 7}, {"cpu": 1, "gpu": 0}, 7),
        ],
    )
    def test_counts_machine_by_machine(
        self, monkeypatch: pytest.MonkeyPatch, machines: list, resources: dict,
        demand: dict, slots: int,
    ) -> None:  # fmt: skip
        nodes = [{"Alive": True, "Resources": machine} for machine in machines]
        nodes.append({"Alive": False, "Resources": {"CPU": 99, "GPU": 99}})
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        taken, now = ray_cluster.share(ResourceSpec(**resources))
        assert taken == demand and now() == slots

    @pytest.mark.parametrize(
        ("resources", "key", "allowed"),
        [
            ({"cpu": 4}, "resources.cpu", "at most 3"),
            ({"gpu": 1.5}, "resources.gpu", "whole"),
            ({"gpu": 3}, "resources.gpu", "at most 2"),
            ({"cpu": 3, "gpu": 0.5}, "resources.cpu", "beside 0.5 GPUs"),
        ],
    )
    def test_refuses_what_fits_nowhere(
        self, monkeypatch: pytest.MonkeyPatch, resources: dict, key: str, allowed: str
    ) -> None:
        machines = [{"CPU": 3}, {"CPU": 2, "GPU": 2}]
        nodes = [{"Alive": True, "Resources": machine} for machine in machines]
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        with pytest.raises(ConfigError, match=allowed) as caught:
            ray_cluster.share(ResourceSpec(**resources))
        assert caught.value.key == key

    def test_follows_machines_that_come_and_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nodes = [{"Alive": True, "Resources": {"CPU": 2}} for _ in range(2)]
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        monkeypatch.setattr(ray_cluster, "_LOOK_SECONDS", -1.0)
        _, slots = ray_cluster.share(ResourceSpec())
        assert slots() == 4
        nodes[0]["Alive"] = False
        assert slots() == 2
        nodes.append({"Alive": True, "Resources": {"CPU": 5}})
        assert slots() == 7


class TestAddress:
    @pytest.mark.parametrize("address", ["ray://host:10001", "host", "", "http://h:1", "h:x"])
    def test_of_another_kind_is_refused(self, address: str) -> None:
        with pytest.raises(ConfigError, match="host:port of a Ray cluster's head, or auto"):
            RayTuneExecutor(address)

    def test_of_nobody_is_refused_on_one_line(self, tmp_path: Path) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{closed.getsockname()[1]}"
            spec = fake_spec(trials=1)
            with pytest.raises(ConfigError, match=f"--address: '{address}'.*refused") as caught:
                run_fake(spec, tmp_path, None, address)
        assert "\n" not in str(caught.value)
        assert StudyFolder(tmp_path).trials.records() == []

    @pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "host", "ray://host:10001"])
    def test_of_another_kind_in_the_environment_is_refused_by_its_name(
        self, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", address)
        said = rf"RAY_ADDRESS: '{address}'.*host:port .*without RAY_ADDRESS"
        with pytest.raises(ConfigError, match=said):
            RayTuneExecutor()

    def test_of_nobody_in_the_environment_is_refused_by_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{closed.getsockname()[1]}"
            monkeypatch.setenv("RAY_ADDRESS", address)
            with pytest.raises(ConfigError, match=f"RAY_ADDRESS: '{address}'.*refused") as caught:
                run_fake(fake_spec(trials=1), tmp_path, None)
        assert "\n" not in str(caught.value)
        assert caplog.messages == [f"joining the Ray cluster {address}, as RAY_ADDRESS says"]

    def test_that_is_given_counts_more_than_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
        assert chosen_address("auto") == ("auto", "--address")
        assert chosen_address(None) == ("10.0.0.1:6379", "RAY_ADDRESS")
        for own in ("", "local"):
            monkeypatch.setenv("RAY_ADDRESS", own)
            assert chosen_address(None) == (None, "--address")

    @pytest.mark.parametrize(
        ("reason", "advice"),
        [
            ("No node info found matching attributes: '' when trying", "ray start --address=auto"),
            ("GCS.\nAuthenticationError: RPC error: InvalidAuthToken: …", "RAY_AUTH_MODE=token"),
            ("no reason\nthat we know", r"joined by `ray start` \(.*no reason that we know\)"),
        ],
    )
    def test_that_cannot_be_joined_says_what_to_do(self, reason: str, advice: str) -> None:
        with pytest.raises(ConfigError, match=advice) as caught, ray_cluster.joining("auto"):
            raise ConnectionError("Failed to connect to Ray cluster") from RuntimeError(reason)
        assert "\n" not in str(caught.value)


class TestShortFolder:
    """A search under a long TMPDIR is in `test_ray`."""

    @pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
    def test_stands_in_for_one_of_too_long_a_path(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str
    ) -> None:
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        monkeypatch.setenv(variable, usual := "/" + "x" * 119)
        with ray_cluster.short_folder() as folder:
            assert folder is not None and len(folder) < 25
            assert Path(folder).stat().st_mode & 0o777 == 0o700
            said = f"Ray's files are in {folder}, since paths in {usual} are too long"
            assert caplog.messages == [said]
        assert not Path(folder).exists()

    def test_is_none_where_sockets_fit(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        longest = 103 - len("/ray/session_2026-01-31_00-00-00_000000_0000000/sockets/plasma_store")
        for length, short in ((longest, False), (longest + 1, True)):
            monkeypatch.setenv("TMPDIR", "/" + "x" * (length - 1))
            with ray_cluster.short_folder() as folder:
                assert (folder is not None) is short
        assert len(caplog.messages) == 1


def test_ray_that_does_not_start_is_one_line() -> None:
    said = r"node timed out.*--executor local"
    with pytest.raises(StudyError, match=said) as caught, ray_cluster.joining(None):
        raise Exception("The current node\ntimed out during startup.")
    assert "\n" not in str(caught.value)


def test_ray_does_not_take_over_what_stops_a_search() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ray_cluster.joining(None):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    assert signal.getsignal(signal.SIGTERM) is before


STOPPED = """
import signal, sys
from autosearch.executors import ray_cluster
from autosearch.executors.signals import stopping_on_signals

told = []
with stopping_on_signals(lambda: told.append("stop")):
    try:
        with ray_cluster.joining(None):
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.raise_signal(signal.SIGTERM)
    except SystemExit:
        told.append("left")
print(*told)
"""

HUNG_UP = """
import signal, subprocess
from autosearch.executors import ray_cluster
from autosearch.executors.signals import stopping_on_signals

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may ignore it
told = []
with stopping_on_signals(lambda: told.append("stop")):
    with ray_cluster.joining(None):
        signal.raise_signal(signal.SIGHUP)
        held = not told
        # What is started now leaves the signal to the search.
        blocked = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True)
        (line,) = [row for row in blocked.stdout.splitlines() if row.startswith("SigBlk")]
        inherited = int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1
print(held, inherited, *told, signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


@pytest.mark.parametrize(
    ("program", "expected"),
    [(STOPPED, "stop left"), (HUNG_UP, "True 1 stop False")],
    ids=["SIGTERM while Ray starts stops it", "SIGHUP is acted on once Ray has started"],
)
def test_signals_while_ray_starts(program: str, expected: str) -> None:
    """In a process of its own: signals are for whole processes."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.returncode) == (expected, 0), done.stderr


def test_a_hangup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    told: list[str] = []
    try:
        with stopping_on_signals(lambda: told.append("stop")):
            signal.raise_signal(signal.SIGHUP)
        assert told == [] and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
