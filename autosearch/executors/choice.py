"""Executors by name."""

from __future__ import annotations

from autosearch.errors import ConfigError
from autosearch.study import Executor


def make_executor(name: str, address: str | None = None) -> Executor:
    """The executor of a name: ``ray`` or ``local``.

    Raises:
        ConfigError: An address was given to one that joins no cluster.
    """
    if name == "local":
        if address is not None:
            raise ConfigError("--address", address, "nothing with --executor local")
        from autosearch.executors import LocalExecutor

        return LocalExecutor()
    from autosearch.executors import RayTuneExecutor

    return RayTuneExecutor(address)
