"""Do banks as small as those that are deployed rank configurations as whole banks do?

    python benchmarks/small_banks.py --data ../shared/data/magnetic_tile:magnetic_tile_mini

Configurations drawn from a space are fitted twice: with all patches in the bank, and with some
thousand chosen by k-centre of at most 50,000. What each reaches on the test split ranks them;
printed are both ranks' agreement, what is lost, and CPU seconds of fitting and scoring.
"""

from __future__ import annotations

import argparse
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
    given = parser.parse_args()
    torch.set_num_threads(1)
    columns = "data", "rows", "Spearman (95 %)", "rwAP less whole", "s a trial", "times faster"
    shown = Table(*columns, box=None)
    for data in given.data:
        asked = [f"dataset.{key}={value}" for key, value in data_section(data).items()]
        inputs = load_inputs(load_spec(spaces()[given.space], [*asked, *given.set]))
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
