"""Whether images are those that a study was begun with, and which are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autosearch.data import SearchData
from autosearch.errors import StudyError
from autosearch.storage import StudyFolder, changes, files_of

_REMEDY = (
    "put them back, name the folder or CSV file that has them with --data, or begin another study "
    "with --name"
)


def check_data(folder: StudyFolder, data: SearchData) -> None:
    """Refuse other images than a study was begun with.

    Args:
        folder: The study's; one that has no meta data yet takes any.
        data: What was found now.

    Raises:
        StudyError: Says how many files were added, removed, changed, renamed or moved to another
            split, and names the first ones. Of a study of an earlier version, which kept no names,
            it says what it can.
    """
    meta = folder.load_meta().get("data")
    now = str(data.info["sha256"])
    if not meta or meta["sha256"] == now:
        return
    kept = folder.load_files()
    what = _counts(meta, data.info) if kept is None else changes(kept, files_of(data.files))
    what = what or "the same files, read in another way"
    raise StudyError(
        f"{folder.path}: other data than the study was begun with: {what}; sha256 "
        f"{meta['sha256'][:12]} then, {now[:12]} now; {_REMEDY}"
    )


def _counts(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What numbers of images say, where names were not kept."""
    parts = []
    for split, types in then["counts"].items():
        found = now["counts"].get(split, {})
        for kind in dict.fromkeys([*types, *found]):
            before, after = types.get(kind, 0), found.get(kind, 0)
            if before != after:
                parts.append(f"{split} has {after} {kind}, {before} then")
    counted = ", ".join(parts) or "as many images of every type as then"
    return f"{counted} (which files is not known: the version that began it kept no names)"
