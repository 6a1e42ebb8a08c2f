"""Memory that trials at a time share on one machine: who asks first is served first.

Each trial says before it starts what it will need. What would not fit beside those that run waits
for them; what would not fit alone is infeasible. So it is never the kernel that decides.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from autosearch.errors import Infeasible
from autosearch.files import FileLock

_SHARE = 0.8
"""Of the memory that is available, for all trials together; the rest is for all around them."""
_POLL_SECONDS = 0.05
_CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class Room:
    """The memory of one machine for the trials of one search. Pickles; each machine has its own.

    Attributes:
        name: Of the search, different from all others.
        given: Bytes for all trials together; None for most of what is available.
    """

    name: str
    given: int | None = None

    @contextmanager
    def held(self, needed: int) -> Iterator[float]:
        """Hold so many bytes, once they are free.

        Args:
            needed: Bytes.

        Yields:
            Seconds that were waited for.

        Raises:
            Infeasible: They never will be; both figures are named.
        """
        start, mine = time.monotonic(), f"{os.getpid()}-{time.monotonic_ns()}"
        try:
            while not self._served(mine, needed):
                time.sleep(_POLL_SECONDS)
            yield time.monotonic() - start
        finally:
            with FileLock(self._path.with_suffix(".lock")):
                state = self._state()
                state["queue"] = [entry for entry in state["queue"] if entry[0] != mine]
                self._path.write_text(json.dumps(state), encoding="utf-8")

    def clear(self) -> None:
        """Remove what is left on this machine; for the end of the search."""
        for path in (self._path, self._path.with_suffix(".lock")):
            path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return Path(tempfile.gettempdir(), f"autosearch-{os.getuid()}-{self.name}.json")

    def _served(self, mine: str, needed: int) -> bool:
        """Queue up, and say whether there is room after all that came before."""
        with FileLock(self._path.with_suffix(".lock")):
            state = self._state()
            total = state["total"]
            if needed > total:
                there = f"{size_text(total)} are there (resources.memory)"
                raise Infeasible(f"needs about {size_text(needed)} of memory, and {there}")
            queue = [entry for entry in state["queue"] if psutil.pid_exists(entry[1])]
            if all(entry[0] != mine for entry in queue):
                queue.append([mine, os.getpid(), needed])
            before = 0
            for name, _, bytes_ in queue:
                if name == mine:
                    break
                before += bytes_
            self._path.write_text(json.dumps({"total": total, "queue": queue}), encoding="utf-8")
        return bool(before + needed <= total)

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            return state
        except (OSError, ValueError):
            return {"total": self.given or round(_SHARE * available()), "queue": []}


def available() -> int:
    """Bytes that can be taken on this machine, or in this container, and hurt nobody."""
    free = int(psutil.virtual_memory().available)
    for limit, used in _CGROUPS:
        try:
            limits = [int(Path("/sys/fs/cgroup", name).read_text()) for name in (limit, used)]
        except (OSError, ValueError):  # "max" is no number
            continue
        free = min(free, max(0, limits[0] - limits[1]))
    return free


def size_text(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
