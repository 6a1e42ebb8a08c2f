"""A PostgreSQL that tests start, stop and talk to."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

try:
    import psycopg
except ImportError:
    psycopg = None


class PostgresServer:
    """A PostgreSQL of these tests' own, on a free port, that wants a password.

    Args:
        folder: For its files; made, and left to the user that it runs as.
    """

    user = "searcher"
    password = "pa:ss/Zq7@w%rd"
    """Must be written in another way in a URL, and stand nowhere else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = postgres_programs()
        # PostgreSQL refuses to be root's.
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            names = [entry.pw_name for entry in pwd.getpwall()]
            name = "postgres" if "postgres" in names else "nobody"
            self._as = {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}
            shutil.chown(folder, name)
        secret = folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        self._run("initdb", "-D", folder / "data", "-U", self.user, "--auth=scram-sha-256",
                  f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "--no-sync")  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """The address of one of its databases, user and password included."""
        secret = urllib.parse.quote(self.password, safe="")
        return f"postgresql://{self.user}:{secret}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "fsync": "off",
                   "unix_socket_directories": self._folder, "max_connections": 20}  # fmt: skip
        named = [f"--{name}={value}" for name, value in options.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs["postgres"], "-D", self._folder / "data", *named],
                cwd=self._folder, stdout=log, stderr=log, **self._as,
            )  # fmt: skip
        while True:
            try:
                self.execute("postgres", "SELECT 1")
            except psycopg.OperationalError:
                if self._process.poll() is not None:
                    pytest.fail((self._folder / "log").read_text())
                time.sleep(0.05)
            else:
                return

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: connections end (SIGINT), or it drops everything at once (SIGQUIT)."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def execute(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement, as its own transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def make(self) -> str:
        """The URL of a new and empty database."""
        name = f"d{secrets.token_hex(4)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run([self._programs[program], *arguments], cwd=self._folder,
                              capture_output=True, text=True, **self._as)  # fmt: skip
        if done.returncode:
            pytest.fail(f"{program}: {done.stderr}")


def postgres_programs() -> dict[str, str]:
    """Paths of PostgreSQL's server programs; Debian keeps them off the search path."""
    folders = [os.environ["PATH"], *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))]
    found = {n: shutil.which(n, path=os.pathsep.join(folders)) for n in ("postgres", "initdb")}
    return {name: path for name, path in found.items() if path}


def what_postgres_lacks() -> list[str]:
    """What must be installed before a server can be started here."""
    missing = [name for name in ("postgres", "initdb") if name not in postgres_programs()]
    return missing if psycopg else [*missing, "psycopg"]
