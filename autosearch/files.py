"""Files that are never seen half written, locks, hashes, the folder for things made once."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import platformdirs

from autosearch.errors import ConfigError

_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EEXIST}


def cache_dir(*parts: str) -> Path:
    """Folder for downloads and generated data: ``$AUTOSEARCH_CACHE`` or the user's cache."""
    root = os.environ.get("AUTOSEARCH_CACHE") or platformdirs.user_cache_dir("autosearch")
    return Path(root, *parts)


def is_closed(error: OSError) -> bool:
    """Whether an error says that a place cannot be written to, by whom and however it is tried."""
    return error.errno in _CLOSED


def no_cache(error: OSError) -> ConfigError:
    """What to tell a user whose cache cannot be written to."""
    allowed = f"a folder that can be written to ({error.strerror}); set AUTOSEARCH_CACHE to one"
    return ConfigError("AUTOSEARCH_CACHE", str(cache_dir()), allowed)


def user_path(text: str, key: str) -> Path:
    """A path as a user wrote it, ``~`` expanded. Nothing needs to be there.

    Args:
        text: What was written.
        key: Where, for the error.

    Raises:
        ConfigError: It can be no path on this machine: too long, a link to itself, a home of
            nobody, a null byte, or below a folder that may not be entered.
    """
    try:
        path = Path(text).expanduser()
        path.resolve()
        path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise ConfigError(key, text, f"a path that can be followed ({problem})") from None
    return path


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    Raises:
        OSError: With the file's name, and nothing of it is left.
    """
    data = content.encode() if isinstance(content, str) else content
    publish(path, lambda temporary: _write_durably(temporary, data))


def publish(path: Path, make: Callable[[Path], object]) -> None:
    """Let ``make`` write a temporary sibling of ``path``, then move it into place in one step.

    Raises:
        ConfigError: It is in the cache, which cannot be written to.
        OSError: With the file's name.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_closed(error) and path.is_relative_to(cache_dir()):
            raise no_cache(error) from None
        raise
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        make(temporary)
        temporary.replace(path)
    except OSError as error:
        # Nobody knows the sibling, and of a disk that is full Python names no file at all.
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        if is_closed(error) and path.is_relative_to(cache_dir()):
            raise no_cache(error) from None
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


class FileLock:
    """Lets one holder in at a time, of all threads and processes; a dead process holds nothing.

    Args:
        path: The file that stands for the lock, made if it is missing. Its content is not touched.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: BinaryIO | None = None

    def acquire(self) -> bool:
        """Wait for the lock; always true."""
        file = self._path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._held = file
        return True

    def release(self) -> None:
        """Let the next one in."""
        held, self._held = self._held, None
        if held is not None:
            # Closing is not enough while a forked child has the file open too.
            fcntl.flock(held, fcntl.LOCK_UN)
            held.close()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
