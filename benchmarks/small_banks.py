"""Do banks as small as those that are deployed rank configurations as whole banks do?

    python benchmarks/small_banks.py --data ../shared/data/magnetic_tile:magnetic_tile_mini

Configurations drawn from a space are fitted twice: with all patches in the bank, and with some
thousand chosen by k-centre of at most 50,000. What each reaches on the test split ranks them;
printed are both ranks' agreement, what is lost, and CPU seconds of fitting and scoring.

With `--stages` each is fitted once, its whole bank asked part by part as `pruner.bank_rows` makes
a search do: how well what a trial reports after a part ranks configurations, and for how long it
has run by then. What is gained from a part to the whole is what an early stop must allow for; its
spread, not its mean, is what a stop can err by. Images are those of validation, as in a search;
`--split test` takes longer.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time

import numpy as np
import optuna
import torch
from rich.console import Console
from rich.table import Table
from studies import data_section

from autosearch import spaces
from autosearch.data import ImageSet, load_test_set
from autosearch.errors import Infeasible
from autosearch.metrics import Ranking, rank_correlation
from autosearch.spec import Params, load_spec
from autosearch.study import Inputs, build, load_inputs, maps_of, truth_of


def main() -> None:
    """Print a row for every dataset and size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+", metavar="ROOT:CATEGORY")
    parser.add_argument("--space", default="autopatch")
    parser.add_argument("--number", type=int, default=40, help="configurations")
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the spec")
    parser.add_argument("--stages", action="store_true", help="whole banks, part by part")
    parser.add_argument("--split", default="val", choices=("val", "test"), help="for --stages")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.stages:
        Console(width=120).print(_stages(given))
        return
    columns = "data", "rows", "Spearman (95 %)", "rwAP less whole", "s a trial", "times faster"
    shown = Table(*columns, box=None)
    for data in given.data:
        inputs = _inputs(given, data)
        test, _ = load_test_set(inputs.spec.dataset)
        drawn = _drawn(inputs, given.number)
        whole, seconds = _measured(inputs, drawn, test, {"coreset_ratio": 1.0})
        name = data.rpartition(":")[2]
        shown.add_row(name, "all", "", f"({whole.mean():.3f})", f"{seconds:.1f}", "")
        for rows in given.rows:
            bank: Params = {"bank_rows": rows, "coreset_method": "kcenter"}
            values, own = _measured(inputs, drawn, test, bank)
            found = rank_correlation(whole, values)
            low, high = found.interval
            lost = values - whole
            shown.add_row(
                name,
                f"{rows:,}",
                f"{found.spearman:.2f} ({low:.2f} to {high:.2f})",
                f"{lost.mean():+.3f} ± {lost.std():.3f}",
                f"{own:.1f}",
                f"{seconds / own:.1f}",
            )
    Console(width=120).print(shown)


def _inputs(given: argparse.Namespace, data: str, *more: str) -> Inputs:
    asked = [f"dataset.{key}={value}" for key, value in data_section(data).items()]
    return load_inputs(load_spec(spaces()[given.space], [*asked, *more, *given.set]))


def _stages(given: argparse.Namespace) -> Table:
    """A row for every dataset and part of its banks."""
    columns = "data", "part", "Spearman (95 %)", "gain to the whole", "least, most", "CPU seconds"
    shown = Table(*columns, box=None)
    for data in given.data:
        inputs = _inputs(given, data, "pruner.bank_rows=1")
        images = inputs.data.val if given.split == "val" else load_test_set(inputs.spec.dataset)[0]
        drawn, truth = _drawn(inputs, given.number), truth_of(images)
        looks: list[list[tuple[float, float, float]]] = []
        for params in drawn:
            canonical = inputs.runner.canonical({**params, "coreset_ratio": 1.0})
            detector = build(inputs.spec, inputs.runner, canonical, 0, inputs.data.val)
            start, own = time.process_time(), []
            for part in itertools.chain(detector.fit_in_steps(inputs.data.train), (1.0,)):
                rwap = Ranking.from_maps(maps_of(detector, images), truth).rwap()
                own.append((part, rwap, time.process_time() - start))
            looks.append(own)
            told = ", ".join(f"{part:.0%} {rwap:.4f} {taken:.1f} s" for part, rwap, taken in own)
            print(f"{len(looks)} of {len(drawn)}: {told}", file=sys.stderr, flush=True)
        whole = np.array([own[-1][1] for own in looks])
        for part, *_ in looks[0]:
            found = np.array([next(look for look in own if look[0] == part) for own in looks])
            gains, seconds = whole - found[:, 1], found[:, 2].mean()
            row = ["", f"({whole.mean():.3f})", ""]
            if part < 1:
                ranks = rank_correlation(whole, found[:, 1])
                low, high = ranks.interval
                row = [
                    f"{ranks.spearman:.2f} ({low:.2f} to {high:.2f})",
                    f"{gains.mean():+.3f} ± {gains.std():.3f}",
                    f"{gains.min():+.3f}, {gains.max():+.3f}",
                ]
            shown.add_row(data.rpartition(":")[2], f"{part:.0%}", *row, f"{seconds:.1f}")
    return shown


def _drawn(inputs: Inputs, number: int) -> list[Params]:
    """Configurations that can be built, without what the space says of banks."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    found: list[Params] = []
    while len(found) < number:
        params = inputs.spec.parsed_space.suggest(study.ask())
        params = {k: v for k, v in params.items() if not k.startswith(("coreset_", "bank_"))}
        try:
            inputs.runner.canonical(params)
        except Infeasible:
            continue
        found.append(params)
    return found


def _measured(
    inputs: Inputs, drawn: list[Params], test: ImageSet, bank: Params
) -> tuple[np.ndarray, float]:
    """RwAP of every configuration with a bank, and mean CPU seconds."""
    truth, values, start = truth_of(test), [], time.process_time()
    for params in drawn:
        canonical = inputs.runner.canonical({**params, **bank})
        detector = build(inputs.spec, inputs.runner, canonical, 0, inputs.data.val)
        detector.fit(inputs.data.train)
        values.append(Ranking.from_maps(maps_of(detector, test), truth).rwap())
    return np.array(values), (time.process_time() - start) / len(drawn)


if __name__ == "__main__":
    main()
