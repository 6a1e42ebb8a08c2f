"""What a Ray cluster must be and have, before and while trials run on it."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autosearch import __version__
from autosearch.errors import ConfigError, StudyError
from autosearch.spec import ResourceSpec
from autosearch.study import Evaluator

_GPU_SHARE = 0.25
"""Of one GPU, for each trial that does not ask for more: they wait for the CPU in between."""

_LOOK_SECONDS = 2.0
"""How often a cluster is asked what it holds: machines may join and leave."""

_SESSION = "session_2026-01-31_00-00-00_000000_0000000/sockets/plasma_store"
_LONGEST_TEMP = 102 - len(_SESSION)
"""Bytes of the folder in which Ray makes the like of that; a socket's whole path has 103."""

_log = logging.getLogger(__name__)

_ABSENT = re.compile("ModuleNotFoundError|ImportError|failed to import")


@contextmanager
def short_folder() -> Iterator[str | None]:
    """A folder for the sockets of a Ray that starts, where its own would have too long a path.

    Yields:
        The folder, which is removed at the end; None if Ray's own will do.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()
    short = next(
        (path for path in ("/tmp", "/var/tmp", "/dev/shm") if os.access(path, os.W_OK | os.X_OK)),
        None,
    )
    if len(os.fsencode(Path(usual, "ray"))) <= _LONGEST_TEMP or short is None:
        yield None
        return
    with tempfile.TemporaryDirectory("", "ray-", short, ignore_cleanup_errors=True) as folder:
        _log.warning("Ray's files are in %s, since paths in %s are too long", folder, usual)
        yield folder


@contextmanager
def joining(address: str | None, key: str = "--address") -> Iterator[None]:
    """Turn what Ray says while it starts or joins into one line, and keep signals from it.

    Args:
        address: Of a cluster to join; None while Ray starts on this machine.
        key: What gave the address, for the error.

    Raises:
        ConfigError: Nobody listens there, or this machine is no node of the cluster.
        StudyError: Ray did not start.
    """
    before = signal.getsignal(signal.SIGTERM)
    # Ray's processes inherit it: a terminal that closes is for the search alone to act on.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        if address not in (None, "auto"):
            # Ray itself would try for a minute, and write pages.
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        yield
    except SystemExit:
        # Ray's handler of SIGTERM, which it puts in place while it starts.
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
        raise
    except Exception as error:
        if address is not None:
            raise ConfigError(key, address, _expected(address, error)) from None
        reason = " ".join(str(error).split())[:300]
        raise StudyError(
            f"Ray did not start: {reason} Try again, or go without it: --executor local"
        ) from None
    finally:
        # Ray's own handlers, of Python and below it, would end the process wherever it is.
        signal.signal(signal.SIGTERM, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _expected(address: str, error: Exception) -> str:
    """What an address should be of, and why this one is not, as far as Ray says."""
    said = " ".join(f"{error} {error.__cause__ or ''}".split())
    if "No node info found" in said:
        return f"a cluster that this machine has joined: `ray start --address={address}` first"
    if "AuthToken" in said:
        return (
            "a cluster whose token is known here: RAY_AUTH_MODE=token, and the token in "
            "~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
        )
    reason = getattr(error, "strerror", None) or said[:300]
    return f"a running Ray cluster that this machine has joined by `ray start` ({reason})"


def check_nodes(evaluator: Any) -> None:
    """Make sure that trials can run on every node, before any is lost where they cannot.

    Args:
        evaluator: An object's reference; every node has the object afterwards.

    Raises:
        StudyError: A node lacks a package, or has another version of this one.
    """
    answers = []
    for node in _nodes():
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        probe = _probe.options(scheduling_strategy=there)
        answers.append((f"node {node['NodeManagerAddress']}", probe.remote(evaluator)))
    for name, answer in answers:
        try:
            version = ray.get(answer)
        except ray.exceptions.RayError as error:
            raise _unable(name, str(error)) from None
        if version != __version__:
            raise _unable(name, f"autosearch {version} there, {__version__} here")


def missing_package(error: str) -> StudyError | None:
    """What to end a search with if a worker could not start for want of a package.

    Args:
        error: Ray's text about a worker.
    """
    if "creation task" not in error or not _ABSENT.search(error):
        return None
    node = re.search(r"\bip=([\w.:]+)", error)
    return _unable(f"node {node[1]}" if node else "a node", error)


def _unable(node: str, error: str) -> StudyError:
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if _ABSENT.search(line)), lines[-1])
    return StudyError(
        f"{node}: trials cannot run there: {reason[:300]}; install the same packages on every "
        "node, the runner's own too"
    )


def share(resources: ResourceSpec) -> tuple[dict[str, float], Callable[[], int]]:
    """What one trial takes, and how many may run at a time, as things stand when asked.

    Raises:
        ConfigError: Not even one trial fits on any machine.
    """
    machines = [node["Resources"] for node in _nodes()]
    most = {name: max(m.get(name.upper(), 0) for m in machines) for name in ("cpu", "gpu")}
    auto = _GPU_SHARE if most["gpu"] else 0
    demand = {"cpu": resources.cpu, "gpu": auto if resources.gpu == "auto" else resources.gpu}
    for name, amount in demand.items():
        if amount > most[name]:
            allowed = f"at most {most[name]:g}, all that Ray finds on one machine"
            raise ConfigError(f"resources.{name}", amount, allowed)
        if name == "gpu" and amount > 1 and amount != int(amount):
            raise ConfigError("resources.gpu", amount, "a part of one GPU, or whole ones")
    if not any(_fitting(machine, demand) for machine in machines):
        allowed = f"an amount that a machine has beside {demand['gpu']:g} GPUs"
        raise ConfigError("resources.cpu", demand["cpu"], allowed)
    chosen = resources.max_concurrent
    return demand, _Slots(demand) if chosen == "auto" else lambda: chosen


class _Slots:
    """How many trials the machines that are there now hold at a time."""

    def __init__(self, demand: Mapping[str, float]) -> None:
        self._demand, self._looked, self._found = demand, -math.inf, 0

    def __call__(self) -> int:
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._found = sum(_fitting(node["Resources"], self._demand) for node in _nodes())
            self._looked = time.monotonic()
        return self._found


def _fitting(machine: Mapping[str, float], demand: Mapping[str, float]) -> int:
    """How many trials a machine holds at a time; none is spread over parts of two GPUs."""
    gpus, gpu = machine.get("GPU", 0), demand["gpu"]
    # Ten times a tenth is a little less than one.
    fits = math.floor(machine.get("CPU", 0) / demand["cpu"] + 1e-6)
    if 0 < gpu <= 1:
        return min(fits, math.floor(gpus) * math.floor(1 / gpu + 1e-6))
    return min(fits, math.floor(gpus / gpu)) if gpu else fits


def spread() -> bool:
    """Whether there is more than one machine."""
    return len(_nodes()) > 1


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]
def _probe(evaluator: Evaluator) -> str:
    """Run on a node that has all that trials need."""
    return __version__
