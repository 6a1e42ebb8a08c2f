"""The command ``autosearch``: arguments only. What they set in motion lives elsewhere."""

from autosearch.cli.app import app
from autosearch.cli.entry import main

__all__ = ["app", "main"]
