"""Figures of studies: for notebooks, and as files for papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.errors import ConfigError
from autosearch.storage import StudyFolder

if TYPE_CHECKING:
    import plotly.graph_objects

    from autosearch.report import Print

Studies = str | Path | Sequence[str | Path]
"""Folders of studies, or of one."""


def figure(
    studies: Studies,
    kind: str = "pareto",
    *,
    labels: Sequence[str] | None = None,
    **options: Any,
) -> plotly.graph_objects.Figure:
    """Draw studies in one picture.

    Args:
        studies: Their folders. ``parallel`` and ``curves`` take one alone.
        kind: See `Study.figure`.
        labels: What to call each in the legend; by default its folder's name.
        options: See `Study.figure`.

    Raises:
        ConfigError: There is no such kind, figure or option.
        StudyError: A study cannot be read, or none of its trials has values yet.
    """
    return drawn(opened(studies), kind, labels, **options)


def drawn(
    folders: Sequence[StudyFolder],
    kind: str,
    labels: Sequence[str] | None = None,
    **options: Any,
) -> plotly.graph_objects.Figure:
    """`figure` of studies that are open."""
    from autosearch.report import draw, shown_studies

    exported = _exported(folders) if kind == "thresholds" else ()
    return draw(shown_studies(folders, exported, labels), kind, **options)


def write_figure(
    studies: Studies,
    kind: str = "pareto",
    out: str | Path | None = None,
    *,
    width: float | str | None = None,
    font_size: float | None = None,
    font: str | None = None,
    dpi: int | None = None,
    labels: Sequence[str] | None = None,
    **options: Any,
) -> Path:
    """Draw studies into a file of the size at which it will be printed.

    PNG, SVG and PDF need matplotlib (``pip install 'autosearch[figures]'``) and neither browser
    nor network; HTML is a page that opens without network.

    Args:
        studies: Their folders.
        kind: See `Study.figure`.
        out: The file, which ends in ``.png``, ``.svg``, ``.pdf`` or ``.html``; by default
            ``KIND.png`` in the folder of the study, or here for several.
        width: mm, or ``single`` (88) or ``double`` (180), the columns of a journal. By default
            one, and two for ``parallel``.
        font_size: Points, 8 by default.
        font: ``sans`` or ``serif``.
        dpi: Of PNG, 300 by default.
        labels: See `figure`.
        options: See `Study.figure`.

    Returns:
        The file.

    Raises:
        ConfigError: As `figure`; or a file of that kind cannot be written, or not in that size.
        StudyError: As `figure`; or the file cannot be written.
    """
    from autosearch.report import Print, shown_studies, write_figure as write

    folders = opened(studies)
    usual = f"{kind}.png"
    target = Path(out or (folders[0].path / usual if len(folders) == 1 else usual))
    if target.is_dir():
        raise ConfigError("--out", str(target), f"a file, such as {usual}")
    given = {"width": width, "font_size": font_size, "font": font, "dpi": dpi}
    asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    how: Print | None = Print(**asked) if asked else None
    exported = _exported(folders) if kind == "thresholds" else ()
    return write(shown_studies(folders, exported, labels), kind, target, how, **options)


def figure_kinds() -> tuple[str, ...]:
    """Names of the kinds of figures."""
    from autosearch.report import KINDS

    return tuple(KINDS)


def opened(studies: Studies) -> list[StudyFolder]:
    """Studies that are to be shown together.

    Raises:
        ConfigError: There is none, or one is there twice, by another path perhaps.
        StudyError: A study cannot be read.
    """
    listed = [studies] if isinstance(studies, (str, Path)) else list(studies)
    if not listed:
        raise ConfigError("studies", listed, "at least one folder")
    folders = [StudyFolder.open(Path(study)) for study in listed]
    known: dict[Path, Path] = {}
    for folder in folders:
        first = known.setdefault(folder.path.resolve(), folder.path)
        if first is not folder.path:
            raise ConfigError("studies", str(folder.path), f"each study once: {first} is the same")
    return folders


def _exported(folders: Sequence[StudyFolder]) -> list[dict[int, dict[str, float]]]:
    """Image thresholds of the exports in each study's folder, by trial; a broken one is none."""
    from autosearch.export import read_manifest
    from autosearch.graphs import ModelError

    found: list[dict[int, dict[str, float]]] = []
    for folder in folders:
        found.append({})
        for path in sorted(folder.path.glob("exports/*/model.json")):
            try:
                manifest = read_manifest(path.parent)
                number, limit = manifest["study"]["trial"], manifest["thresholds"]["image"]
                value = float(limit["value"])
            except (ModelError, KeyError, TypeError, ValueError):
                continue
            if number is not None:
                name = f"{path.parent.name} ({limit.get('rule', 'rule unknown')})"
                found[-1].setdefault(number, {})[name] = value
    return found
