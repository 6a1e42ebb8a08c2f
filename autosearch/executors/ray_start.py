"""What a Ray of our own does without, and what its workers find in their environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from ray._private import node

from autosearch.storage import VARIABLE

NICENESS = "RAY_worker_niceness"
"""What Ray adds to the niceness of the process that starts it, for its workers."""

_ENVIRONMENT = {
    # The 15 that Ray adds by itself starve a search beside other work.
    NICENESS: "0",
    # Workers that wait for the first job are never taken: Tune's have an environment of their own.
    "RAY_prestart_worker_first_driver": "0",
}
"""Of a Ray of our own, unless the user says otherwise."""

_UNUSED = ("start_monitor", "start_log_monitor", "start_api_server")
"""Methods that start a process each: for machines that are hired, for output of workers that a
driver shows, for the dashboard. Nobody here asks these for anything, and each loads much of Ray;
Ray waits for the last, though it is told to include no dashboard."""


@contextmanager
def lean() -> Iterator[None]:
    """Start no process of Ray that a search on this machine alone has no use for.

    Ray has no public option for this. Where the methods have other names, all is started.
    """
    with ExitStack() as stack:
        for name in _UNUSED:
            if hasattr(node.Node, name):
                stack.enter_context(patch.object(node.Node, name, _start_nothing))
        yield


def _start_nothing(self: Any, **options: Any) -> None:
    """Stand for a method that starts a process."""


@contextmanager
def worker_environment(own: bool) -> Iterator[None]:
    """What is in the environment while Ray starts is in that of every worker.

    The database's address is not. A Ray of our own finds `_ENVIRONMENT` there as well.

    Args:
        own: Whether Ray is started, not joined.
    """
    secret = os.environ.pop(VARIABLE, None)
    ours = {name: value for name, value in _ENVIRONMENT.items() if own and name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        os.environ.update({VARIABLE: secret} if secret is not None else {})
        for name in ours:
            del os.environ[name]
