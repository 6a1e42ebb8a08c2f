"""The views of the report, live, for all studies of a folder: a server on this machine alone.

It reads, and writes nothing but notes on trials, for its own page alone; see
`autosearch.report.noting`. Whatever a browser names (a study, a trial, a file) is looked up among
what is there; no path is made of it. Scripts, styles and data come from this server and nowhere
else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import shlex
import socket
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dash
import flask
import optuna
import plotly.offline
from dash import ClientsideFunction, Input, Output, State, dcc, html
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.serving import WSGIRequestHandler, make_server

from autosearch.errors import ConfigError, StudyError
from autosearch.report.curves import read_curves
from autosearch.report.info import ARTIFACTS, CURVES, artifact_path, view_data
from autosearch.report.live import Library, Reading
from autosearch.report.noting import ADDRESS, add_note_route, check_writer
from autosearch.report.question import STORES, is_question
from autosearch.report.view import ASSETS
from autosearch.storage import StudyFolder

DEFAULT_PORT = 8050
_HOST = "127.0.0.1"
_PORTS_TRIED = 20
_TICK_MILLISECONDS = 2000
_OTHERS = r"^(?!dashboard\.|view[.-])"
_LONGEST_QUESTION = 1_000_000
"""Bytes of a browser's request: it names studies, and repeats two hashes."""


def serve(directory: Path, port: int | None = None, open_in_browser: bool = False) -> None:
    """Serve the dashboard on 127.0.0.1 until Ctrl-C, after printing its address.

    Args:
        directory: A folder that holds studies, or the folder of one.
        port: Where to listen; None takes 8050 or the next port that is free.
        open_in_browser: Show the page in the user's browser.

    Raises:
        StudyError: There is no such folder.
        ConfigError: The port that was asked for cannot be had.
    """
    if not directory.is_dir():
        raise StudyError(
            f"{directory}: no such folder; name one that holds studies, or make one with "
            "`autosearch run`"
        )
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _listen(port) as listening:
        bound = int(listening.getsockname()[1])
        library = Library(directory)
        # A large study takes seconds to read; that need not wait for a browser.
        refresh(library, None, None)
        app = make_app(library, bound)
        server = make_server(
            _HOST, bound, app.server, True, request_handler=_Handler, fd=listening.fileno()
        )
        address = f"http://{_HOST}:{bound}/"
        print(f"Dashboard of {directory}: {address} (Ctrl-C ends it)", flush=True)
        if open_in_browser:
            webbrowser.open(address)
        server.serve_forever()


def make_app(library: Library, port: int) -> dash.Dash:
    """The dashboard as an application, whose ``server`` is a Flask one.

    Args:
        library: The studies to show.
        port: Where it will be served. Requests for another host or from the pages of another are
            refused, so that none can reach it through a name that points to this machine.
    """
    app = dash.Dash(
        __name__,
        assets_folder=str(ASSETS),
        # Other pages have their files there, too.
        assets_ignore=_OTHERS,
        external_scripts=["/plotly.js"],
        serve_locally=True,
        title="autosearch",
        update_title="",
        enable_mcp=False,
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    token = secrets.token_urlsafe(32)
    app.layout = _layout(library.directory, token)
    app.callback(
        *(Output(name, "data") for name in STORES),
        Input("tick", "n_intervals"),
        Input("chosen", "data"),
        State("seen", "data"),
        # Otherwise a tick that comes before the answer would make the browser drop that answer.
        running=[(Output("tick", "disabled"), True, False)],
    )(lambda _, chosen, seen: refresh(library, chosen, seen))
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("dashboard", "heard"),
        Input("clock", "data"),
        Input("listing", "data"),
        Input("chosen", "data"),
        Input("data", "data"),
    )
    _add_routes(app.server, library)
    add_note_route(app.server, library)
    _guard(app.server, port, app.csp_hashes(), token)
    return app


def refresh(
    library: Library, chosen: Sequence[str] | None, seen: dict[str, str] | None
) -> tuple[Any, ...]:
    """Answer one look of a browser: only what is news to it.

    Args:
        library: The studies there are.
        chosen: Names of the studies to draw; None lets the server choose one.
        seen: What was sent to this browser last, as this function returned it.

    Returns:
        The studies there are and notes on the chosen ones; what is chosen; the time; data of the
        view; and what is seen now. ``dash.no_update`` in place of what the browser has already.
    """
    value: Any = dash.no_update
    if chosen is None and (foremost := library.foremost()):
        value = chosen = [foremost]
    drawn = chosen or []
    readings = library.look(drawn)
    listing = {
        "studies": [_listed(name, reading) for name, reading in readings.items()],
        "notes": _notes(library.paths(), readings, drawn),
    }
    shown = [(name, readings[name]) for name in drawn if name in readings]
    versions = [(name, reading.version) for name, reading in shown]
    now = {"listing": _digest(listing), "data": _digest(versions)}
    seen = seen or {}

    def news(part: str, make: Callable[[], object]) -> object:
        return dash.no_update if now[part] == seen.get(part) else make()

    # Folders have different names where studies, copied or begun anew, may share one.
    infos = [{**reading.info, "name": name} for name, reading in shown if reading.info]
    return (
        news("listing", lambda: listing),
        value,
        f"{datetime.now():%H:%M:%S}",
        news("data", lambda: view_data(infos)),
        dash.no_update if now == seen else now,
    )


def _layout(directory: Path, token: str) -> html.Div:
    """The fixed parts; ``dashboard.js`` fills the others, names and messages as plain text.

    Dash could list the studies itself, but its page breaks once a list of components grows.
    """
    given: dict[str, Any] = {"data-token": token}
    silent = html.Strong(
        " The server no longer answers: what is shown may be old.", id="silent", hidden=True
    )
    return html.Div(
        [
            html.Header(
                [
                    html.H1("autosearch dashboard"),
                    html.P(["Studies in ", html.Code(str(directory))]),
                    html.P(["Last look at the disk: ", html.Span("…", id="time"), silent]),
                ]
            ),
            html.Fieldset(
                [
                    html.Legend("Studies"),
                    html.P("Choose one, or several to compare.", className="muted"),
                    html.Div(id="studies"),
                ],
                className="card",
            ),
            html.Div(id="notes", role="status"),
            html.Main(id="view", **given),
            dcc.Interval(id="tick", interval=_TICK_MILLISECONDS),
            *(dcc.Store(id=name) for name in STORES),
        ],
        id="dashboard",
        className="autosearch",
    )


def _listed(name: str, reading: Reading) -> dict[str, str]:
    each = ", ".join(f"{n} {status}" for status, n in reading.counts.items() if n)
    told = f"{reading.finished} of {reading.budget} trials" + (f": {each}" if each else "")
    unknown = reading.problem or reading.state == "reading"
    return {"name": name, "state": reading.state, "told": "" if unknown else told}


def _notes(
    paths: Mapping[str, Path], readings: Mapping[str, Reading], chosen: Sequence[str]
) -> list[str]:
    if not readings and not chosen:
        return ["No study here yet. One started with `autosearch run` appears by itself."]
    notes = []
    for name in chosen:
        reading = readings.get(name)
        if reading is None or name not in paths:
            notes.append(f"{name}: its folder is no longer there.")
        elif reading.problem:
            notes.append(f"{name}: {reading.problem}.")
        elif reading.info is None:
            notes.append(f"{name} is being read …")
        elif reading.state == "stopped":
            command = f"autosearch resume {shlex.quote(str(paths[name]))}"
            notes.append(f"{name} stopped before its budget was met. To go on: {command}")
    return notes


def _digest(content: object) -> str:
    return hashlib.sha256(str(content).encode(errors="replace")).hexdigest()


def _add_routes(server: flask.Flask, library: Library) -> None:
    @server.get("/plotly.js")
    def plotly_js() -> flask.Response:
        return flask.Response(plotly.offline.get_plotlyjs(), mimetype="text/javascript")

    @server.get("/artifact")
    def artifact() -> flask.Response:
        """One file of one trial, or what is drawn of it: ``?study=NAME&number=N&name=FILE``."""
        asked = flask.request.args
        study = library.paths().get(asked.get("study", ""))
        number, name = asked.get("number", type=int), asked.get("name", "")
        if study is None or number is None:
            flask.abort(404)
        path = artifact_path(StudyFolder(study), number, name)
        if path is None:
            flask.abort(404)
        if name == CURVES:
            if (curves := read_curves(path)) is None:
                flask.abort(404)
            return flask.Response(json.dumps(curves), mimetype=ARTIFACTS[name])
        try:
            return flask.send_file(path.absolute(), mimetype=ARTIFACTS[name], max_age=0)
        except OSError:
            flask.abort(404)


def _guard(server: flask.Flask, port: int, script_hashes: Sequence[str], token: str) -> None:
    server.config["MAX_CONTENT_LENGTH"] = _LONGEST_QUESTION
    hosts = {f"{name}:{port}" for name in (_HOST, "localhost")}
    origins = {f"http://{host}" for host in hosts}
    policy = "; ".join(
        [
            "default-src 'none'",
            " ".join(["script-src 'self'", *script_hashes]),
            # Plotly and Dash set styles from scripts; pictures of a chart are made from blobs.
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )

    @server.before_request
    def only_what_the_page_asks() -> None:
        request = flask.request
        if request.host not in hosts or request.headers.get("Origin") not in {None, *origins}:
            flask.abort(403, "This dashboard answers its own page on this machine only.")
        # Dash would answer any other address with its page.
        if request.url_rule and request.url_rule.rule == "/<path:path>":
            flask.abort(404)
        if request.method == "POST":
            if not request.is_json:
                flask.abort(415, "The dashboard's own page asks in JSON.")
            if request.path == ADDRESS:
                check_writer(token, origins)
                return
            try:
                understood = is_question(request.get_json(silent=True))
            except RecursionError:
                understood = False
            if not understood:
                flask.abort(400, "This is not what the dashboard's own page asks.")

    @server.errorhandler(HTTPException)
    def refused(error: HTTPException) -> flask.Response:
        line = f"{error.code} {error.name}: {error.description}\n"
        return flask.Response(line, error.code, mimetype="text/plain")

    # Dash's way to say that it has no such file.
    @server.errorhandler(dash.exceptions.DependencyException)
    @server.errorhandler(dash.exceptions.InvalidResourceError)
    def absent(error: Exception) -> flask.Response:
        return refused(NotFound())

    @server.after_request
    def secured(response: flask.Response) -> flask.Response:
        response.headers["Content-Security-Policy"] = policy
        # For browsers that do not know frame-ancestors.
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response


class _Handler(WSGIRequestHandler):
    """Refuses what is no request, one with a broken address too."""

    def parse_request(self) -> bool:
        """Read the first line and the headers; werkzeug would end in a traceback later on."""
        if not super().parse_request():
            return False
        try:
            urlsplit(self.path)
        except ValueError:
            self.send_error(400)
            return False
        return True

    def log_request(self, *_: Any) -> None:
        """Print nothing; werkzeug would take the address apart."""

    def log_error(self, *_: Any) -> None:
        """Tell whoever sent it, not the terminal."""


def _listen(port: int | None) -> socket.socket:
    wanted = range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED) if port is None else [port]
    for number in wanted:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((_HOST, number))
            listening.listen()
        except OSError as error:
            listening.close()
            problem = error.strerror or type(error).__name__
            continue
        return listening
    allowed = f"a free port from {wanted[0]} to {wanted[-1]}" if port is None else "a free port"
    raise ConfigError("--port", port, f"{allowed} ({problem})")
