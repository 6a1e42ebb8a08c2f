"""What tests of watched folders and cameras share: a model's journal, and what it says."""

import json
from pathlib import Path
from typing import Any

from autosearch.export.folder import ExportedModel
from autosearch.export.journal import RESULTS, Journal
from autosearch.export.watch import FolderWatch


def rows(out: Path) -> list[dict[str, Any]]:
    """Lines of the results, all of which must be whole."""
    text = (out / RESULTS).read_text(encoding="utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def names(out: Path) -> list[str]:
    """Files that the results tell of, in their order."""
    return [Path(row["path"]).name for row in rows(out)]


def steps(
    model: ExportedModel, folder: Path, out: Path, count: int = 2, batch: int = 8
) -> list[int]:
    """Numbers of images that so many looks of a new process would write down."""
    with Journal(out, model) as journal:
        watch = FolderWatch(model, [str(folder)], journal, batch)
        return [watch.step(lambda answer: None) for _ in range(count)]
