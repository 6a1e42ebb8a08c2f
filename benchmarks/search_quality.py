"""Does a search find more than fixed layers? On the test split, at no more operations.

    python benchmarks/search_quality.py --data ../shared/data/magnetic_tile:magnetic_tile_mini
    python benchmarks/search_quality.py --data ... --each 0 1 2 4 --start no_tiles.yaml

Searches a space on each dataset, with several numbers of validation defects a type and several
draws of them, which are also the seeds of the searches. Of each search the recommended trial that
costs no more operations than the first one, the fixed layers, is evaluated on the test split once,
as are those that are recommended together, and the fixed layers; differences have intervals over
its images, means over all searches have intervals over draws. With ``--start`` the space begins
with the fixed layers and a portfolio (``benchmarks/portfolio.py --out``) that other datasets have
chosen. All have one test split. Stopped and called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from studies import data_section, portfolio

from autosearch import Study, search, spaces
from autosearch.study import RULES

FIGURES = ("rwap", "ap", "image_auroc")


def main() -> None:
    """Print a row for every search, and the means."""
    given = _options()
    if given.start and len(given.start) != len(given.data):
        raise SystemExit("--start: a portfolio for each of --data")
    columns = ("data", "defects", "draw", "trials", "GFLOP (fixed)", *FIGURES, "rwap of fixed")
    table = Table(*columns, box=None)
    found: dict[tuple[int, str], dict[str, list[list[float]]]] = defaultdict(dict)
    for each in given.each:
        for number, data in enumerate(given.data):
            for draw in given.draws:
                study, name = _searched(given, number, each, draw)
                for kind, numbers in _chosen(given, study).items():
                    differences, row = _held(study, numbers)
                    found[each, kind].setdefault(data, []).append(differences)
                    table.add_row(name, str(each), str(draw), *row)
    for (each, kind), sets in found.items():
        table.add_row(f"mean, {kind}", str(each), "", "", "", *_means(list(sets.values())), "")
    Console(width=170).print(table)


def _chosen(given: argparse.Namespace, study: Study) -> dict[str, list[int]]:
    """What is recommended: one trial, and several to take together where there are."""
    budget = {"total_gflops": given.budget * _cost(study, [0])}
    choice = study.recommend(budget, given.prefer, given.rule)
    kinds = {"one": [choice.trial.number], "together": list(choice.together)}
    study.evaluate([0, choice.trial.number])
    if choice.together:
        study.evaluate(ensemble=choice.together)
    return {kind: numbers for kind, numbers in kinds.items() if numbers}


def _held(study: Study, numbers: list[int]) -> tuple[list[float], list[str]]:
    """Differences of `FIGURES` to the fixed layers, and what a row says of trials."""
    compared = study.compare(numbers[0] if len(numbers) == 1 else numbers, 0)
    differences = [compared.metrics[figure] or 0.0 for figure in FIGURES]
    intervals = [compared.intervals[figure] or (np.nan, np.nan) for figure in FIGURES]
    cells = [
        f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"
        for difference, (low, high) in zip(differences, intervals, strict=True)
    ]
    costs = f"{_cost(study, numbers):.2f} ({_cost(study, [0]):.2f})"
    fixed = study.tests[0]["metrics"]["rwap"]
    return differences, ["+".join(map(str, numbers)), costs, *cells, f"{fixed:.3f}"]


def _means(sets: list[list[list[float]]], copies: int = 2000) -> list[str]:
    """Mean over datasets, 95 % over draws of each, the worst dataset and the spread over draws."""
    rng = np.random.default_rng(0)
    values = [np.array(own) for own in sets]
    drawn = [own[rng.integers(len(own), size=(copies, len(own)))].mean(1) for own in values]
    low, high = np.quantile(np.mean(drawn, 0), (0.025, 0.975), axis=0)
    means = np.array([own.mean(0) for own in values])
    spread = np.mean([own.std(0, ddof=1 if len(own) > 1 else 0) for own in values], 0)
    return [
        f"{means[:, i].mean():+.3f} ({low[i]:+.3f} to {high[i]:+.3f}), "
        f"worst {means[:, i].min():+.3f}, spread {spread[i]:.3f}"
        for i in range(len(FIGURES))
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+", metavar="ROOT:CATEGORY")
    parser.add_argument("--space", default="autopatch_plus")
    parser.add_argument("--trials", type=int, default=25)
    parser.add_argument("--start", type=Path, nargs="+", help="YAML file of a portfolio, for each")
    parser.add_argument("--each", type=int, nargs="+", default=[1], help="defects a type")
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2], help="dataset.seed")
    parser.add_argument("--budget", type=float, default=1.0, help="times the fixed layers' cost")
    parser.add_argument("--prefer", help="figure that decides")
    parser.add_argument("--rule", choices=RULES, help="of the choice")
    parser.add_argument("--executor", default="local", choices=("local", "ray", "auto"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the spec")
    return parser.parse_args()


def _cost(study: Study, numbers: Sequence[int]) -> float:
    """Operations of trials for an image, in billions."""
    known = [study.trial(number).measured | study.trial(number).values for number in numbers]
    return sum(one["total_gflops"] for one in known)


def _searched(given: argparse.Namespace, number: int, each: int, draw: int) -> tuple[Study, str]:
    """The finished search, and the name of its data."""
    content: dict[str, Any] = yaml.safe_load(spaces()[given.space].read_text())
    if given.start:
        start = content["start"]
        ours = (start["configurations"] if isinstance(start, dict) else start)[:1]
        ours += portfolio(given.start[number], content["space"])
        content["start"] = {**start, "configurations": ours} if isinstance(start, dict) else ours
    dataset = data_section(given.data[number])
    asked = [f"dataset.{key}={value}" for key, value in dataset.items()]
    asked += [f"dataset.validation.real_per_type={each}", f"dataset.seed={draw}"]
    asked += [f"dataset.test_skip={max(given.each)}", f"study.seed={draw}", *given.set]
    if not each:
        asked.append("dataset.validation.synthetic.kind=both")
    name = f"{given.space}-{dataset['category']}-{each}-{draw}"
    study = search(
        content, asked, trials=given.trials, name=name, results=given.results, resume=True,
        executor=given.executor,
    )  # fmt: skip
    return study, dataset["category"]


if __name__ == "__main__":
    main()
