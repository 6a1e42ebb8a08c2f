"""A study's trials in a PostgreSQL database that heads share. Needs the extra ``postgres``.

A database that goes away is waited for, and what was asked of it is asked again; one that stays
away is an error on one line. No error, log line or file names the password.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import optuna
from optuna.storages import BaseStorage

from autosearch.errors import ConfigError, StudyError
from autosearch.files import write_atomic

VARIABLE = "AUTOSEARCH_STORAGE"
"""Environment variable with the URL of the database, user and password included."""

PATIENCE_SECONDS = 300.0
"""How long a database that has gone away is waited for."""

_ALLOWED = "postgresql://user:password@host:port/database"
_MAX_PAUSE_SECONDS = 5.0
# A head that vanishes with its machine must not hold the lock for longer than a minute.
_SILENCE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_OPTIONS = " ".join(f"-c tcp_{name}={value}" for name, value in _SILENCE.items())
_TIMEOUTS = {**_SILENCE, "connect_timeout": 10, "tcp_user_timeout": 60_000}

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class _Gone(Exception):
    """The database cannot be reached, or refuses to work at the moment."""


class Database:
    """Where one study's trials are kept. Opened when first used.

    All statements of a process go through one connection, which also holds the lock: who loses
    the connection loses the lock, and can add nothing until both are there again.

    Args:
        url: As PostgreSQL's own programs take it: ``postgresql://user:password@host/database``.
            What is missing is looked for where they look, such as in ``~/.pgpass``.
        study: The study's name in the database.

    Raises:
        ConfigError: The URL is malformed or of something else.
        StudyError: The extra is not installed.
    """

    def __init__(self, url: str, study: str) -> None:
        self.study = study
        self._parameters = _parse(url)
        self._section: int | None = None
        self._lost: StudyError | None = None
        self._back = float("-inf")

    def __repr__(self) -> str:
        return f"Database({self.address!r}, {self.study!r})"

    @property
    def address(self) -> str:
        """The URL without user, password and options."""
        host, port = self._parameters.get("host", ""), self._parameters.get("port", "")
        name = quote(self._parameters["dbname"])
        if not re.fullmatch(r"[\w.-]*", host):  # Of a socket's folder, or several hosts.
            return f"postgresql:///{name}?{urlencode({'host': host, 'port': port})}"
        return f"postgresql://{host}{port and ':'}{port}/{name}"

    @cached_property
    def storage(self) -> BaseStorage:
        """The Optuna storage, with its tables.

        Raises:
            StudyError: The database cannot be reached, or is not ours to use.
        """
        inner = optuna.storages.get_storage(self._rdb)
        storage: BaseStorage = _Patient(self._patiently, inner)
        return storage

    def open(self) -> None:
        """Fail now if it cannot be used; see `storage`."""
        _ = self.storage

    def exclusively(self, action: Callable[[], _Result]) -> _Result:
        """Do something while no other head does, from the start again if the connection is lost.

        Args:
            action: Must leave nothing behind that its repetition could not pick up.
        """
        return self._patiently(lambda: self._under_lock(action))

    def clock(self) -> tuple[float, float]:
        """The database's time, and since when it is known to have been there for all.

        Seconds since the epoch. Leases that ran out before a database came back prove nothing:
        nobody could renew them.
        """
        sql = "extract(epoch FROM clock_timestamp())::float8"
        sql += ", extract(epoch FROM pg_postmaster_start_time())::float8"
        now, started = self._patiently(lambda: self._select(sql))
        return now, max(started, now - (time.monotonic() - self._back))

    @cached_property
    def _rdb(self) -> optuna.storages.RDBStorage:
        import psycopg
        import sqlalchemy

        url, connecting = "postgresql+psycopg://", {"creator": self._connect}
        one = {"pool_size": 1, "max_overflow": 0, "pool_timeout": PATIENCE_SECONDS}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            # Two that make the same tables at once get in each other's way.
            with self._connect() as connection:
                connection.execute(f"SELECT pg_advisory_lock({_key('')})")
                # Making and checking tables takes two connections at a time.
                any_number = {**connecting, "poolclass": sqlalchemy.pool.NullPool}
                optuna.storages.RDBStorage(url, any_number)
                rdb = optuna.storages.RDBStorage(
                    url,
                    {**connecting, **one},
                    skip_compatibility_check=True,
                    skip_table_creation=True,
                )
        except (psycopg.Error, sqlalchemy.exc.SQLAlchemyError) as error:
            raise StudyError(f"{self.address}: {self._reason(error)}{self._hint()}") from None
        except (optuna.exceptions.StorageInternalError, RuntimeError) as error:
            raise StudyError(f"{self.address}: {self._reason(error)}") from None
        sqlalchemy.event.listen(rdb.engine, "handle_error", self._translate)
        return rdb

    def _connect(self) -> Any:
        import psycopg

        options = f"{_OPTIONS} {self._parameters.get('options', '')}"
        named: dict[str, Any] = {**_TIMEOUTS, "application_name": "autosearch"}
        return psycopg.connect(**{**named, **self._parameters, "options": options})

    def _translate(self, context: Any) -> None:
        """Raise our own error for a lost connection; Optuna would try again, without the lock."""
        import psycopg

        error = context.original_exception
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            raise _Gone(self._reason(error))

    def _select(self, expression: str) -> Any:
        import sqlalchemy

        with self._rdb.engine.connect() as connection:
            found = connection.execute(sqlalchemy.text(f"SELECT {expression}")).one()
            connection.commit()
        return found

    def _under_lock(self, action: Callable[[], _Result]) -> _Result:
        key = _key(self.study)
        self._select(f"pg_advisory_lock({key})")
        self._section = threading.get_ident()
        try:
            return action()
        finally:
            self._section = None
            # With the connection the lock is gone too.
            with contextlib.suppress(_Gone):
                self._select(f"pg_advisory_unlock({key})")

    def _patiently(self, action: Callable[[], _Result]) -> _Result:
        if self._section == threading.get_ident():
            # The lock may be lost, so the whole section has to be repeated.
            return action()
        since: float | None = None
        pause = 0.1
        while True:
            if self._lost is not None:
                raise self._lost
            try:
                result = action()
            except _Gone as gone:
                now = time.monotonic()
                since = self._wait_or_give_up(str(gone), now if since is None else since, now)
                time.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            else:
                if since is not None:
                    self._back = time.monotonic()
                    _log.warning("%s: there again", self.address)
                return result

    def _wait_or_give_up(self, reason: str, since: float, now: float) -> float:
        minutes = f"{PATIENCE_SECONDS / 60:g} minutes"
        if now - since >= PATIENCE_SECONDS:
            self._lost = StudyError(
                f"{self.address}: gone for {minutes} ({reason}); no finished trial is lost, go on "
                "with `autosearch resume` when it is there again"
            )
            raise self._lost from None
        if now == since:
            _log.warning("%s: %s; trying again for %s", self.address, reason, minutes)
        return since

    def _reason(self, error: BaseException) -> str:
        """What went wrong on one line, without the password should it ever be named."""
        text = " ".join(str(error.__cause__ or error).split())[:300]
        password = self._parameters.get("password") or os.environ.get("PGPASSWORD")
        return text.replace(password, "***") if password else text

    def _hint(self) -> str:
        if "password" in self._parameters:
            return ""
        return f"; set {VARIABLE} to {_ALLOWED}, if it needs a user and a password"


class _Delegate:
    """Methods of a storage that pass on to another one, by way of a function."""

    def __init__(self, through: Callable[[Callable[[], Any]], Any], inner: BaseStorage) -> None:
        self.through, self.inner = through, inner


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: _Delegate, *args: Any, **kwargs: Any) -> Any:
        return self.through(lambda: getattr(self.inner, name)(*args, **kwargs))

    return method


_METHODS = [*BaseStorage.__abstractmethods__, "get_trial_id_from_study_id_trial_number"]
_Patient: Any = type(
    "_Patient", (_Delegate, BaseStorage), {name: _passed_on(name) for name in _METHODS}
)


def write_place(path: Path, database: Database) -> None:
    """Note in a study's folder where its trials are: address and name, nothing secret."""
    place = {"storage": database.address, "study": database.study}
    write_atomic(path, json.dumps(place, indent=2) + "\n")


def read_place(path: Path, url: str | None = None) -> Database:
    """The database that a study's folder names.

    Args:
        path: What `write_place` wrote.
        url: User and password; by default those of the environment variable, if it is set.

    Raises:
        StudyError: The file is damaged, or holds more than an address; the URL is of another
            database.
    """
    try:
        place = json.loads(path.read_text(encoding="utf-8"))
        database = Database(place["storage"], place["study"])
        if database.address != place["storage"]:
            # The folder may be somebody else's, and options name files and programs of ours.
            raise ValueError("more than an address")
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise StudyError(f"{path}: cannot be read ({type(error).__name__})") from None
    given = url or os.environ.get(VARIABLE)
    if not given:
        return database
    full = Database(given, database.study)
    if full.address != database.address:
        raise StudyError(
            f"{path}: the trials are in {database.address}, but {VARIABLE} or --storage names "
            f"{full.address}; if the database has moved, change the file"
        )
    return full


def _parse(url: str) -> dict[str, str]:
    """Connection parameters by libpq's names."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        # Whatever else it is may hold a password.
        shown = f"{scheme}://…" if separator and scheme.replace("+", "").isalnum() else "…"
        raise ConfigError("--storage", shown, _ALLOWED)
    try:
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise StudyError(
            "a study in PostgreSQL needs more packages: pip install 'autosearch[postgres]'"
        ) from None
    import psycopg

    try:
        found = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.Error:
        found = {}
    if not found.get("dbname"):
        raise ConfigError("--storage", f"{scheme}://…", _ALLOWED)
    return found


def _key(study: str) -> int:
    """PostgreSQL names advisory locks with 64-bit numbers."""
    digest = hashlib.sha256(f"autosearch {study}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
