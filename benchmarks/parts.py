"""What benchmarks of a single step share: their options, and what their times depend on."""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch


def parse_options(description: str, **known: Any) -> argparse.Namespace:
    """Read the options of a script.

    Args:
        description: Of the script.
        known: By name the default, whose type an option's value has, or a pair of it and a help
            text. An option takes several values if the default is a list.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, form in known.items():
        default, text = form if isinstance(form, tuple) else (form, None)
        several = isinstance(default, list)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default[0] if several else default),
            nargs="+" if several else None,
            default=default,
            help=text,
        )
    return parser.parse_args()


def circumstances(repeats: int) -> str:
    """What times on one thread depend on besides what was timed, the best of some repeats."""
    version, load = torch.__version__, os.getloadavg()[0]
    return f"One thread, torch {version}, load of the machine {load:.1f}, best of {repeats}."
