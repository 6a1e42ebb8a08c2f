"""Who works on a running trial, and until when others must believe it.

Both stand in the trial itself. A process of this machine that is gone is known at once; one of
another machine is believed to live until its lease runs out, and renews it long before.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from autosearch.storage import Database

LEASE_SECONDS = 120.0
"""How long a running trial of a silent process on another machine is left alone."""


class Leases:
    """Leases of one study's trials, as one process gives and judges them.

    Args:
        database: Whose clock all processes go by; without one, each goes by its machine's.
    """

    def __init__(self, database: Database | None) -> None:
        self._database = database
        self._owner = f"{_place()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._watched: dict[int, tuple[object, float]] = {}

    @property
    def interval(self) -> float:
        """Seconds after which to renew a lease."""
        return LEASE_SECONDS / 3

    def new(self, waiting: bool) -> dict[str, Any]:
        """A lease of this process.

        Args:
            waiting: The trial is to be handed out some time, which costs no attempt; else it is
                handed out.
        """
        return {
            "owner": self._owner,
            "expires": self._clock()[0] + LEASE_SECONDS,
            "ticks": time.monotonic(),
            "waiting": waiting,
        }

    def is_mine(self, lease: Mapping[str, Any]) -> bool:
        """Whether this process gave it; an empty one nobody did."""
        return lease.get("owner") == self._owner

    def over(self, leases: Mapping[int, Mapping[str, Any]]) -> set[int]:
        """Numbers of those trials that nobody works on any longer.

        Args:
            leases: By the trial's number.
        """
        clock = self._clock() if leases else (0.0, 0.0)
        return {number for number, lease in leases.items() if self._is_over(number, lease, *clock)}

    def _clock(self) -> tuple[float, float]:
        """What time it is for all processes, and since when they can renew leases."""
        return self._database.clock() if self._database else (time.time(), -math.inf)

    def _is_over(self, number: int, lease: Mapping[str, Any], now: float, since: float) -> bool:
        if _is_dead(lease["owner"]):
            return True
        if self._database is not None:
            return bool(now > max(lease["expires"], since + LEASE_SECONDS))
        ticks = time.monotonic()
        if "ticks" in lease and _is_here(lease["owner"]):
            return bool(ticks > lease["ticks"] + LEASE_SECONDS)
        # Clocks of two machines may be set to anything: one that is silent for so long is gone.
        if self._watched.get(number, (None, 0.0))[0] != lease:
            self._watched[number] = (lease, ticks)
        return now > lease["expires"] or ticks > self._watched[number][1] + LEASE_SECONDS


def _place() -> str:
    """Where a process number means what it means here: hosts and containers may share a name."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "/".join(parts)


def _is_here(owner: str) -> bool:
    """Whether an owner is a process of this machine, whose clock of ticks is ours."""
    return owner.rsplit(":", 2)[0] == _place()


def _is_dead(owner: str) -> bool:
    """Whether an owner is a process of this machine that is gone."""
    return _is_here(owner) and not _alive(int(owner.rsplit(":", 2)[1]))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
