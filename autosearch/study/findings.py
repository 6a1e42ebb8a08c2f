"""Files of a study's folder in which checks of a trial are kept: ``factory/<check>/<name>``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autosearch.contracts import TrialRecord, ensemble_name
from autosearch.errors import StudyError
from autosearch.files import write_atomic
from autosearch.storage import StudyFolder

FACTORY = "factory"


def about_trials(records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Of what a finding is: ``trial``, which is None where ``ensemble`` has the numbers."""
    if len(records) == 1:
        return {"trial": records[0].number}
    return {"trial": None, "ensemble": [record.number for record in records]}


def finding_name(report: Mapping[str, Any]) -> str:
    """Name of a finding's file, without its ending: ``trial-3`` or ``ensemble-3+7+12``."""
    if report["trial"] is not None:
        return f"trial-{report['trial']}"
    return f"ensemble-{ensemble_name(report['ensemble'])}"


def finding_path(folder: StudyFolder, check: str, name: str) -> Path:
    """Where a finding is kept.

    Raises:
        StudyError: Somebody put a link in the place of a folder.
    """
    place = folder.path / FACTORY / check
    if place.is_symlink() or place.parent.is_symlink():
        raise StudyError(f"{place}: is a link, which leads out of the study's folder")
    return place / name


def write_finding(
    folder: StudyFolder, check: str, name: str, content: Mapping[str, Any] | bytes
) -> Path:
    """Keep a finding: JSON values without NaN, or the bytes of a picture.

    Returns:
        The file.

    Raises:
        StudyError: It cannot be written.
    """
    path = finding_path(folder, check, name)
    if not isinstance(content, bytes):
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        content = text.encode()
    try:
        write_atomic(path, content)
    except OSError as error:
        raise StudyError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def read_findings(folder: StudyFolder, check: str) -> dict[str, dict[str, Any]]:
    """Findings of one check by name of the file without its ending; pictures are none.

    Raises:
        StudyError: A file cannot be read.
    """
    found = {}
    for path in sorted(finding_path(folder, check, "").glob("*.json")):
        if path.is_symlink():
            continue
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise StudyError(f"{path}: cannot be read ({error})") from None
        if not isinstance(content, dict):
            raise StudyError(f"{path}: cannot be read (no JSON object)")
        found[path.stem] = content
    return found
