"""The page of a gallery: one HTML file with all images, sliders of thresholds, and counts."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autosearch.errors import StudyError
from autosearch.files import write_atomic
from autosearch.report.gallery import ROOM, gallery_data
from autosearch.report.html import page
from autosearch.report.view import ASSETS
from autosearch.study import SHARED, Answer

GALLERIES = "galleries"
"""Folder of a study with its galleries, which are called ``trial-3-validation.html``, say."""

_SCRIPTS = ("gallery-data.js", "gallery-draw.js", "gallery-parts.js", "gallery.js")
_STYLE = "gallery.css"

_START = """\
autosearchGallery.mount(document.getElementById("gallery"),
  JSON.parse(document.getElementById("data").textContent));
"""


def write_gallery(answer: Answer, title: str, name: str, out: Path, room: int = ROOM) -> Path:
    """Write the gallery of what a trial answers to a split.

    Images are shown with their ground truth and the mask at a threshold that the reader moves;
    how many images and pixels are called rightly is counted anew at each step, over the whole
    split, and exactly. All pictures take up 10 MB at most: the images that are wrong most clearly
    come first, and the page says how many have none.

    Args:
        answer: What the trial answers.
        title: Of the study.
        name: What the trial is called.
        out: The file, replaced if it is there.
        room: Most characters that pictures may take up.

    Returns:
        `out`.

    Raises:
        StudyError: The file cannot be written.
    """
    data = gallery_data(answer, room)
    data["about"] = _about(answer, title, name, data)
    text = page(
        f"autosearch gallery: {title}, {name}, {answer.split}",
        (ASSETS / _STYLE).read_text("utf-8"),
        f'<main id="gallery"><h1>{html.escape(title)}</h1></main>\n'
        "<noscript>This gallery is drawn by scripts in this file.</noscript>",
        {"data": data},
        [*((ASSETS / script).read_text("utf-8") for script in _SCRIPTS), _START],
    )
    try:
        write_atomic(out, text)
    except OSError as error:
        raise StudyError(f"{out}: cannot be written ({error.strerror})") from None
    return out


def _about(answer: Answer, title: str, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What the head of the page says."""
    return {
        "title": title,
        "name": name,
        "split": answer.split,
        "rule": answer.thresholds.image.criterion.text,
        "fitted_on": answer.fitted_on,
        "notes": list(_notes(answer, data)),
    }


def _notes(answer: Answer, data: Mapping[str, Any]) -> Iterator[str]:
    if not answer.reproduced:
        yield (
            "This fit is not the search's: figures of validation differ by up to "
            f"{answer.difference:.2g} (another machine or library?)."
        )
    if not answer.thresholds.marked:
        yield f"The threshold of pixels is {SHARED}."
    left = sum("photo" not in record for record in data["images"])
    if left:
        yield (
            f"{left} of {len(data['images'])} images have no picture here, to keep this file "
            "small: the last ones in the order of the worst. They count in all figures."
        )
    height, width = answer.maps.shape[1:]
    yield (
        f"Figures are of maps {width} pixels wide and {height} high. Where a picture is smaller, "
        "each of its cells shows the highest score that lies in it."
    )
