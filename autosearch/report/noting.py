"""The one thing that the dashboard's page may have written: a person's note on a trial."""

from __future__ import annotations

import secrets

import flask

from autosearch.errors import AutosearchError
from autosearch.report.live import Library
from autosearch.storage import LONGEST_NOTE, StudyFolder

ADDRESS = "/note"

TOKEN_HEADER = "X-Autosearch-Token"
"""Must hold the token that the page was given, so that no other page can have a note written."""

_LONGEST_BODY = 8 * LONGEST_NOTE + 10_000


def add_note_route(server: flask.Flask, library: Library) -> None:
    """Let ``POST /note`` write one note: ``{"study": NAME, "number": N, "text": TEXT}``.

    The answer is the note as it was kept, or null where it was taken away.

    Args:
        server: Whose other guards have looked at host and origin.
        library: The studies there are; no path is made of what a browser names.
    """

    @server.post(ADDRESS)
    def note() -> flask.Response:
        asked = _asked()
        if asked is None:
            flask.abort(400, "This is not what the dashboard's own page asks.")
        study, number, text = asked
        path = library.paths().get(study)
        if path is None or not 0 <= number < _trials(library, study):
            flask.abort(404, "There is no such trial, or its study has not been read yet.")
        try:
            kept = StudyFolder(path).write_note(number, text)
        except AutosearchError as error:
            flask.abort(409, str(error))
        return flask.jsonify(kept and kept.model_dump())


def check_writer(token: str, origins: set[str]) -> None:
    """Refuse a note that did not come from the page that this start of the dashboard gave out.

    Args:
        token: Its token.
        origins: Of its own pages; a write must name one.
    """
    request = flask.request
    given = request.headers.get(TOKEN_HEADER, "")
    if request.headers.get("Origin") not in origins:
        flask.abort(403, "This dashboard answers its own page on this machine only.")
    if not secrets.compare_digest(given.encode(), token.encode()):
        flask.abort(403, "This page is of an earlier start of the dashboard: load it anew.")
    if (request.content_length or 0) > _LONGEST_BODY:
        flask.abort(413)


def _asked() -> tuple[str, int, str] | None:
    """Study, number and text of a request; None where it is of another form."""
    try:
        asked = flask.request.get_json(silent=True)
    except RecursionError:
        return None
    match asked:
        case {"study": str(study), "number": int(number), "text": str(text), **rest}:
            return None if rest or isinstance(number, bool) else (study, number, text)
    return None


def _trials(library: Library, study: str) -> int:
    """Number of a study's trials, 0 where it is gone."""
    reading = library.look([]).get(study)
    return sum(reading.counts.values()) if reading else 0
