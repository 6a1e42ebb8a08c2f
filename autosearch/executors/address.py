"""Which Ray cluster is meant, asked without loading Ray."""

from __future__ import annotations

import os
import re

from autosearch.errors import ConfigError

VARIABLE = "RAY_ADDRESS"
"""Ray's own: which cluster is joined unless somebody says another one."""

_ADDRESS = re.compile(r"[\w.-]+:\d{1,5}|\[[\da-fA-F:]+\]:\d{1,5}")


def chosen_address(given: str | None) -> tuple[str | None, str]:
    """Which cluster is to be joined, if any, and what says so.

    Args:
        given: ``host:port`` of its head or ``auto``; None leaves it to ``RAY_ADDRESS``, which
            ``ray job submit`` sets.

    Raises:
        ConfigError: It is of another kind, such as Ray Client's or a dashboard's.
    """
    address, key = given, "--address"
    if given is None and (found := os.environ.get(VARIABLE)) not in (None, "", "local"):
        address, key = found, VARIABLE
    if address is not None and address != "auto" and not _ADDRESS.fullmatch(address):
        allowed = "host:port of a Ray cluster's head, or auto"
        if key == VARIABLE:
            allowed += f"; without {VARIABLE}, a search starts a Ray of its own"
        raise ConfigError(key, address, allowed)
    return address, key
