"""Folders into which a line puts its images: each file once, when it is whole. Free of torch.

Folders are looked through again and again rather than told of by the system: what tells of changes
(inotify and its like) is silent about files that another machine puts on a network drive, and does
not say when a file is complete, so that it would have to be looked at again all the same.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from autosearch.data import EXTENSIONS
from autosearch.errors import ConfigError, one_line
from autosearch.export.folder import ExportedModel
from autosearch.export.journal import Journal, Seen
from autosearch.export.listing import Found, masks_of
from autosearch.export.predict import (
    Prediction,
    Skipped,
    predict_together,
    together,
    workers,
)
from autosearch.files import user_path

TRIES = 3
"""How often a file that cannot be read is tried before it is written down as broken."""

_ENDINGS, _LONGEST_NAME = tuple(EXTENSIONS), 200
"""Endings of images; bytes of a name that leave room for what is put around it."""


class FolderWatch:
    """Folders that are looked through for images that are new.

    A file is taken when its size and time are what they were in the look before, and looked at
    again when its content has changed since; its time alone may change. One that cannot be read
    is tried `TRIES` times, as it may still be on its way, and then again only when it has
    changed; whenever it has, its tries are counted anew. Hidden files, links, and what lies in
    the folder of the results are left alone.

    Args:
        model: What answers.
        folders: With all folders below them.
        journal: Where results go, and what has been looked at.
        batch: Images per pass, or tiles of one.
        foreground: Folder with masks of the objects, laid out as the folders of the images. A mask
            must be there when its image is; else the object is looked for.

    Attributes:
        problems: Folders that could not be read in the last look, and why.

    Raises:
        ConfigError: There is no such folder, or it is that of the results; or the model wants no
            object.
    """

    def __init__(
        self,
        model: ExportedModel,
        folders: Sequence[str],
        journal: Journal,
        batch: int = 8,
        foreground: str | Path | None = None,
    ) -> None:
        self._model, self._journal, self._batch = model, journal, batch
        self._out = journal.out.resolve()
        self._folders = [_watched(folder, self._out) for folder in folders]
        self._foreground, self._masks = foreground, masks_of(model, foreground)
        masks = None if self._masks is None else self._masks.path
        self._apart = {self._out, masks}
        # By the file's path as text: of thousands of files, those that are new are few.
        self._before: dict[str, Seen] = {}
        self._tries: dict[str, tuple[Seen, int]] = {}
        self._names: dict[str, str] = {}
        self.problems: dict[Path, str] = {}

    def step(
        self,
        told: Callable[[Prediction | Skipped], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> int:
        """Look through the folders once, and at the images that are ready, oldest first.

        Args:
            told: Told of each image whose line has been written.
            stopped: Asked between batches whether to leave it at that.

        Returns:
            How many images were written down.
        """
        ready, done = self._ready(), 0
        self._masks = masks_of(self._model, self._foreground)  # Anew: some may have come since.
        step = together(self._model, self._batch)
        with workers() as pool:
            for start in range(0, len(ready), step):
                if stopped():
                    break
                taken = [self._taken(*entry) for entry in ready[start : start + step]]
                some = {_key(str(entry[0].path)): entry for entry in taken if entry is not None}
                images = [found for found, _ in some.values()]
                for answer in predict_together(
                    self._model, images, self._journal.out, self._batch, pool
                ):
                    found, seen = some[answer.path]
                    path = str(found.path)
                    if isinstance(answer, Skipped) and not self._given_up(path, seen):
                        continue
                    if isinstance(answer, Prediction):
                        del self._names[path]
                    self._tries.pop(path, None)
                    self._journal.add(answer, seen)
                    told(answer)
                    done += 1
        return done

    def _ready(self) -> list[tuple[Path, str, Seen]]:
        """Folder, file and stamp of what is whole and not known, oldest first."""
        now: dict[str, Seen] = {}
        ready = []
        self.problems = {}
        for folder in self._folders:
            for path, seen in self._images(folder):
                if seen.same_file(self._journal.seen.get(_key(path))):
                    continue
                if seen == self._before.get(path):
                    ready.append((folder, path, seen))
                now[path] = seen
        self._before = now
        self._tries = {path: tries for path, tries in self._tries.items() if path in now}
        return sorted(ready, key=lambda entry: (entry[2].modified_ns, entry[1]))

    def _images(self, folder: Path) -> Iterator[tuple[str, Seen]]:
        pending = [folder]
        while pending:
            place = pending.pop()
            try:
                with os.scandir(place) as entries:
                    members = [entry for entry in entries if not entry.name.startswith(".")]
            except OSError as error:
                self.problems[place] = error.strerror or str(error)
                continue
            for entry in members:
                if entry.is_dir(follow_symlinks=False):
                    if (inner := Path(entry.path)) not in self._apart:
                        pending.append(inner)
                    continue
                wanted = entry.name.lower().endswith(_ENDINGS)
                if wanted and (seen := _stamp(entry)) is not None:
                    yield entry.path, seen

    def _taken(self, folder: Path, place: str, seen: Seen) -> tuple[Found, Seen] | None:
        """The file with its bytes; None if there is nothing to be done about it now."""
        path, content = Path(place), None
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            pass  # Whoever decodes it will say why.
        if _stamp(path) != seen:
            return None
        if content is not None:
            seen = replace(seen, sha256=hashlib.sha256(content).hexdigest())
            known = self._journal.seen.get(_key(place))
            if known is not None and known.sha256 == seen.sha256:
                self._journal.seen[_key(place)] = seen
                return None
        inside = path.relative_to(folder)
        mask = None if self._masks is None else self._masks.mask_of(path, inside)
        whole = one_line("_".join((*inside.parts[:-1], path.stem))).encode()
        wanted = whole[-_LONGEST_NAME:].decode(errors="ignore")
        # Kept until there are pictures of that name: what cannot be read now may be later.
        if place not in self._names:
            self._names[place] = self._journal.name(wanted)
        return Found(path, self._names[place], content, mask), seen

    def _given_up(self, path: str, seen: Seen) -> bool:
        before, tries = self._tries.get(path, (seen, 0))
        # One that has changed is still being written, however often it has stood still before.
        tries = tries + 1 if seen.same_file(before) else 1
        self._tries[path] = seen, tries
        return tries >= TRIES


def _watched(folder: str, out: Path) -> Path:
    path = user_path(folder, "IMAGES").resolve()
    if not path.is_dir():
        raise ConfigError("IMAGES", folder, "a folder that is there, to be watched")
    if path == out:
        raise ConfigError("--out", str(out), "another folder than the one that is watched")
    return path


def _stamp(file: os.DirEntry[str] | Path) -> Seen | None:
    """Of a file; None of what is none, or is gone."""
    try:
        found = file.stat(follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Seen(found.st_size, found.st_mtime_ns)


def _key(path: str) -> str:
    """The path as results have it: a name that is no text stands as its escape sequences."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return one_line(path)
    return path
