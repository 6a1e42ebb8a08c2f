"""What a search has found after so many trials: with a portfolio to begin with, and without.

    python benchmarks/search_curves.py --data ../shared/data/magnetic_tile:magnetic_tile_mini

Searches a space from several beginnings and with several samplers, stops after so many trials to
evaluate what is recommended within the cost of the fixed layers on the test split, and goes on. A
portfolio (``benchmarks/portfolio.py --out``) should be one that was chosen on other datasets.
Stopped and called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from studies import data_section, portfolio

from autosearch import Study, search, spaces
from autosearch.errors import StudyError

FIGURES = ("rwap", "ap", "image_auroc")


def main() -> None:
    """Print a row for every way of searching, and what it has found after so many trials."""
    given = _options()
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for draw in given.draws:
        for way in ("fixed", *_ways(given)):
            for trials in given.trials if way != "fixed" else [1]:
                study = _searched(given, way, trials, draw)
                if way == "fixed":
                    cost = study.trial(0).measured.get("total_gflops")
                    cost = study.trial(0).values["total_gflops"] if cost is None else cost
                _note(found, way, trials, study, cost)
    shown = Table("searched", "trials", *FIGURES, "of", title=given.data, box=None)
    for way, trials in dict.fromkeys((way, trials) for _, way, trials in found):
        own = [found[figure, way, trials] for figure in FIGURES]
        cells = [
            f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" for values in own
        ]
        shown.add_row(way, str(trials), *cells, str(len(own[0])))
    Console(width=130).print(shown)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, metavar="ROOT:CATEGORY")
    parser.add_argument("--start", type=Path, help="YAML file of a portfolio")
    parser.add_argument("--space", default="autopatch_plus")
    parser.add_argument("--trials", type=int, nargs="+", default=[12, 25, 50])
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1], help="dataset.seed")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the spec")
    return parser.parse_args()


def _ways(given: argparse.Namespace) -> list[str]:
    return (["portfolio"] if given.start else []) + ["tpe", "random"]


def _searched(given: argparse.Namespace, way: str, trials: int, draw: int) -> Study:
    """A search as it stands after so many trials."""
    content: dict[str, Any] = yaml.safe_load(spaces()[given.space].read_text())
    start = content["start"]
    fixed = (start["configurations"] if isinstance(start, dict) else start)[:1]
    content["start"] = []
    if way == "fixed":
        content["start"] = fixed
    elif way == "portfolio":
        content["start"] = portfolio(given.start, content["space"])
    elif way == "random":
        content["sampler"] = {"name": "random"}
    dataset = data_section(given.data)
    asked = [f"dataset.{key}={value}" for key, value in dataset.items()]
    asked += [f"dataset.seed={draw}", f"study.seed={draw}", *given.set]
    name = f"{dataset['category']}-{way}-{draw}"
    return search(content, asked, trials=trials, name=name, results=given.results, resume=True)


def _note(
    found: dict[tuple[str, str, int], list[float]],
    way: str,
    trials: int,
    study: Study,
    cost: float,
) -> None:
    """What the trial that is recommended reaches; nothing where none is cheap enough."""
    try:
        chosen = study.recommend({"total_gflops": cost}).trial.number
    except StudyError:
        values = dict.fromkeys(FIGURES, 0.0)
    else:
        study.evaluate([chosen])
        values = study.tests[chosen]["metrics"]
    for figure in FIGURES:
        found[figure, way, trials].append(values[figure])


if __name__ == "__main__":
    main()
