"""The command and its subcommands; each calls the front door and shows what comes of it."""

from __future__ import annotations

from typing import Annotated

import typer

from autosearch import __version__
from autosearch.cli.data import check, convert, look
from autosearch.cli.doctor import doctor
from autosearch.cli.evaluate import evaluate
from autosearch.cli.examples import give_examples
from autosearch.cli.export import export
from autosearch.cli.factory import factory_app
from autosearch.cli.figure import figure
from autosearch.cli.gallery import gallery
from autosearch.cli.init import init
from autosearch.cli.listings import objectives, runners, spaces
from autosearch.cli.note import note
from autosearch.cli.pages import dashboard, report
from autosearch.cli.predict import predict
from autosearch.cli.repeat import repeat
from autosearch.cli.schema import schema
from autosearch.cli.search import resume, run
from autosearch.cli.show import correlate, recommend, show
from autosearch.cli.supernet import supernet_app
from autosearch.cli.track import track

app = typer.Typer(
    name="autosearch",
    help="Search hyperparameters and architectures for industrial visual anomaly segmentation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Begin with: autosearch init FOLDER",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at datasets, and lay them out anew.", no_args_is_help=True)
data_app.command()(check)
data_app.command()(look)
data_app.command()(convert)

for command in (
    init, run, resume, show, report, figure, dashboard, repeat, recommend, evaluate, export,
    predict, gallery, correlate, note, spaces, runners, objectives, doctor, track, schema,
):  # fmt: skip
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(factory_app, name="factory")
app.add_typer(supernet_app, name="supernet")
give_examples({"": app, "data": data_app, "factory": factory_app, "supernet": supernet_app})


def _version(wanted: bool) -> None:
    if wanted:
        print(f"autosearch {__version__}")
        raise typer.Exit


@app.callback()
def root_options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Search hyperparameters and architectures for industrial visual anomaly segmentation."""
