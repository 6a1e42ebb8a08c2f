"""Does a search find more than fixed layers? On the test split, at no more operations.

    python benchmarks/search_quality.py --data ../shared/data/magnetic_tile:magnetic_tile_mini

Searches a space on each dataset, with several draws of the validation defects, one a type. Of each
search the recommended trial that costs no more operations than the first one, the fixed layers, is
evaluated on the test split once, as are those that are recommended together, and the fixed layers;
differences have intervals over its images. Stopped and called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from studies import data_section

from autosearch import Study, search
from autosearch.study import RULES

FIGURES = ("rwap", "ap", "image_auroc")


def main() -> None:
    """Print a row for every search, and the means."""
    given = _options()
    table = Table("data", "draw", "trials", "GFLOP (fixed)", *FIGURES, "rwap of fixed", box=None)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for data in given.data:
        for draw in given.draws:
            study, name = _searched(given, data, draw)
            cost = _cost(study, [0])
            choice = study.recommend(
                {"total_gflops": given.budget * cost}, given.prefer, given.rule
            )
            study.evaluate([0, choice.trial.number])
            kinds = {"one": [choice.trial.number], "together": list(choice.together)}
            if choice.together:
                study.evaluate(ensemble=choice.together)
            for kind, numbers in kinds.items():
                if not numbers:
                    continue
                compared = study.compare(numbers[0] if kind == "one" else numbers, 0)
                cells = []
                for figure in FIGURES:
                    difference = compared.metrics[figure] or 0.0
                    low, high = compared.intervals[figure] or (np.nan, np.nan)
                    found[kind, figure].append(difference)
                    cells.append(f"{difference:+.3f} ({low:+.3f} to {high:+.3f})")
                named = "+".join(map(str, numbers))
                costs = f"{_cost(study, numbers):.2f} ({cost:.2f})"
                fixed = study.tests[0]["metrics"]["rwap"]
                table.add_row(name, str(draw), named, costs, *cells, f"{fixed:.3f}")
    for kind in ("one", "together"):
        values = [found[kind, figure] for figure in FIGURES]
        means = [f"{np.mean(own):+.3f} ± {np.std(own):.3f}" for own in values if own]
        table.add_row(f"mean and spread, {kind}", "", "", "", *means, "")
    Console(width=160).print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+", metavar="ROOT:CATEGORY")
    parser.add_argument("--space", default="autopatch_plus")
    parser.add_argument("--trials", type=int, default=25)
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2], help="dataset.seed")
    parser.add_argument("--budget", type=float, default=1.0, help="times the fixed layers' cost")
    parser.add_argument("--prefer", help="figure that decides")
    parser.add_argument("--rule", choices=RULES, help="of the choice")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the spec")
    return parser.parse_args()


def _cost(study: Study, numbers: Sequence[int]) -> float:
    """Operations of trials for an image, in billions."""
    known = [study.trial(number).measured | study.trial(number).values for number in numbers]
    return sum(one["total_gflops"] for one in known)


def _searched(given: argparse.Namespace, data: str, draw: int) -> tuple[Study, str]:
    """The finished search, and the name of its data."""
    dataset = data_section(data)
    name = f"{given.space}-{dataset['category']}-{draw}"
    asked = [f"dataset.{key}={value}" for key, value in dataset.items()]
    asked += [f"dataset.seed={draw}", f"study.seed={draw}", *given.set]
    study = search(
        given.space, asked, trials=given.trials, name=name, results=given.results, resume=True
    )
    return study, dataset["category"]


if __name__ == "__main__":
    main()
