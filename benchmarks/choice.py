"""Which rule chooses best when validation has few defects? Rules and ensembles on the same trials.

    python benchmarks/choice.py --data ... --pool /data/pool --each 0 1 2 4

From what `collect.py` kept, searches are put together: the fixed choice, what the space begins
with, and some of the drawn configurations. For every draw of the defects that validation has, so
many of each type, each rule takes a trial, or the five best as one detector; figures are those of
all other defects and the normal images of the test split, less those of the fixed layers (bank
10 % by k-centre, 224 pixels) on the same images. With none, only made anomalies count. A trial
must cost no more operations than the fixed layers, network and search together.
"""

from __future__ import annotations

import argparse
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import FIGURES, Dataset, common
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from studies import cores

from autosearch.files import write_atomic
from autosearch.study import RULES, Candidate

FIXED = "fixed-1.0"
SHOWN = ("rwap", "ap", "image_auroc")
_TOGETHER = 5

Floats = NDArray[np.float64]


def main() -> None:
    """Print one row for every rule and number of defects."""
    given = _options()
    given.pool.mkdir(parents=True, exist_ok=True)
    sets = [Dataset.of(data, given.pool, given.space, given.normals) for data in given.data]
    names = common(sets)
    found: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    context = get_context("spawn")
    with ProcessPoolExecutor(cores(), context, torch.set_num_threads, (1,)) as pool:
        for data in sets:
            judged = dict(zip(names, pool.map(partial(_judged, data, given), names), strict=True))
            told = {one["name"]: one for one in data.told()}
            for each in given.each:
                for seed in range(given.seeds):
                    chosen = _pool_of(names, told, given.trials, seed, given.budget)
                    _choose(data, given, each, seed, chosen, judged, told, found)
    Console(width=160).print(_table(given, found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+", metavar="ROOT:CATEGORY")
    parser.add_argument("--space", default="autopatch_plus")
    parser.add_argument("--normals", type=int, default=100)
    parser.add_argument("--pool", required=True, type=Path)
    parser.add_argument("--each", type=int, nargs="+", default=[0, 1, 2, 4], help="defects a type")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--trials", type=int, default=60, help="of a search")
    parser.add_argument("--seeds", type=int, default=3, help="searches")
    parser.add_argument("--budget", type=float, default=1.0, help="times the fixed layers' cost")
    return parser.parse_args()


def _judged(data: Dataset, given: argparse.Namespace, name: str) -> dict[str, Floats]:
    """Figures of a configuration: ``val-k`` and ``test-k`` ``(D,)``, ``error-k`` of rwAP, made."""
    path = given.pool / f"{data.name}-{name}.{given.draws}-{'-'.join(map(str, given.each))}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            return dict(kept)
    told = next(one for one in data.told() if one["name"] == name)
    parts: dict[str, Floats] = {"made": data.made}
    for each in given.each:
        drawn = data.draws(each, given.draws, 0)
        parts[f"test-{each}"] = data.tests(drawn)
        if each:
            parts[f"val-{each}"] = data.validations(drawn)
            parts |= {f"without-{each}-{i}": _without(one) for i, one in
                      enumerate(parts[f"val-{each}"] * (1 + data.truth.labels))}  # fmt: skip
    copies = np.concatenate(list(parts.values()))
    ends = np.cumsum([len(part) for part in parts.values()])
    figures = data.figures(data.maps(name), copies, told["top_share"])
    found: dict[str, Floats] = {}
    for key, part in zip(parts, np.split(np.arange(len(copies)), ends[:-1]), strict=True):
        for figure in FIGURES:
            found[f"{key}:{figure}"] = figures[figure][part]
    for each in given.each:
        errors = []
        for i in range(given.draws if each else 0):
            values = found.pop(f"without-{each}-{i}:rwap_calibrated")
            for figure in FIGURES[1:]:
                found.pop(f"without-{each}-{i}:{figure}")
            n = len(values)
            errors.append(np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum()))
        found[f"error-{each}"] = np.array(errors)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **found)
    write_atomic(path, content.getvalue())
    return found


def _without(copies: Floats) -> Floats:
    """Copies of images without each anomalous one in turn, which are marked by a 2."""
    anomalous = np.flatnonzero(copies == 2)
    found = np.minimum(np.repeat(copies[None], len(anomalous), axis=0), 1)
    found[np.arange(len(anomalous)), anomalous] = 0
    return found


def _pool_of(
    names: Sequence[str], told: Mapping[str, Any], trials: int, seed: int, budget: float
) -> list[str]:
    """Trials of a search that keep to the budget, the fixed choice first."""
    most = budget * told[FIXED]["total_gflops"] * 1.001
    starts = [name for name in names if name.startswith("start-")]
    drawn = [name for name in names if name.startswith("drawn-")]
    rng = np.random.default_rng([7, seed])
    number = min(len(drawn), max(0, trials - len(starts) - 1))
    some = [drawn[i] for i in rng.choice(len(drawn), number, replace=False)]
    return [n for n in (FIXED, *starts, *some) if told[n]["total_gflops"] <= most]


def _choose(
    data: Dataset,
    given: argparse.Namespace,
    each: int,
    seed: int,
    names: Sequence[str],
    judged: Mapping[str, Mapping[str, Floats]],
    told: Mapping[str, Any],
    found: dict[tuple[int, str], list[dict[str, Any]]],
) -> None:
    """Let every rule choose in every draw, and keep what it reaches less the fixed choice."""
    tests = data.tests(data.draws(each, given.draws, 0))
    for draw in range(given.draws if each else 1):
        candidates = [_candidate(i, n, each, draw, judged, told) for i, n in enumerate(names)]
        for rule, choose in RULES.items():
            if each == 0 and rule not in ("best", "smooth"):
                continue
            scores = choose(candidates)
            order = np.argsort(-scores, kind="stable")
            _keep(data, found, (each, rule), draw, seed, judged, told, names[order[0]])
            if seed == 0:
                top = [names[i] for i in order[:_TOGETHER]]
                reached = _together(data, top, tests[draw : draw + 1])
                cost = sum(told[name]["total_gflops"] for name in top)
                fixed = {f: judged[FIXED][f"test-{each}:{f}"][draw] for f in SHOWN}
                found[each, f"{rule}, {_TOGETHER} together"].append(
                    {"set": data.name, "seed": seed, "draw": draw, "cost": cost,
                     "trial": "+".join(top)}
                    | {f: reached[f] - fixed[f] for f in SHOWN} | {"value": reached["rwap"]}
                )  # fmt: skip
        best = max(names, key=lambda n: judged[n][f"test-{each}:rwap"][draw])
        _keep(data, found, (each, "(best on test)"), draw, seed, judged, told, best)


def _candidate(
    place: int,
    name: str,
    each: int,
    draw: int,
    judged: Mapping[str, Mapping[str, Floats]],
    told: Mapping[str, Any],
) -> Candidate:
    own = judged[name]
    made = {f: float(own[f"made:{f}"][0]) for f in FIGURES}
    real = {f: float(own[f"val-{each}:{f}"][draw]) for f in FIGURES} if each else made
    figures = {**real, "rwap_synthetic": made["rwap_calibrated"]}
    figures |= {"ap_synthetic": made["ap_calibrated"]}
    errors = {"rwap_calibrated": float(own[f"error-{each}"][draw])} if each else {}
    return Candidate(place, figures, "rwap", 1, errors, {}, told[name]["canonical"])


def _keep(
    data: Dataset,
    found: dict[tuple[int, str], list[dict[str, Any]]],
    key: tuple[int, str],
    draw: int,
    seed: int,
    judged: Mapping[str, Mapping[str, Floats]],
    told: Mapping[str, Any],
    name: str,
) -> None:
    figures = {f: judged[name][f"test-{key[0]}:{f}"][draw] for f in SHOWN}
    fixed = {f: judged[FIXED][f"test-{key[0]}:{f}"][draw] for f in SHOWN}
    row = {"set": data.name, "seed": seed, "draw": draw, "cost": told[name]["total_gflops"],
           "trial": name, "value": figures["rwap"]}  # fmt: skip
    found[key].append(row | {f: figures[f] - fixed[f] for f in SHOWN})


def _together(data: Dataset, names: Sequence[str], copies: Floats) -> dict[str, float]:
    """Figures of the mean of standardised maps."""
    normal = data.validation & ~data.truth.labels
    total = np.zeros(data.truth.masks.shape, dtype=np.float32)
    for name in names:
        maps = data.maps(name)
        own = maps[normal]
        total += (maps - own.mean()) / (own.std() or 1)
    return {key: float(v[0]) for key, v in data.figures(total, copies, None).items()}


def _table(
    given: argparse.Namespace, found: Mapping[tuple[int, str], list[dict[str, Any]]]
) -> Table:
    columns = (
        "each",
        "rule",
        "rwAP less fixed",
        "AP",
        "image AUROC",
        "worst set",
        "spread",
        "GFLOP",
    )
    shown = Table(*columns, box=None)
    for (each, rule), rows in sorted(found.items(), key=lambda item: item[0]):
        sets = sorted({row["set"] for row in rows})
        of = {name: [row for row in rows if row["set"] == name] for name in sets}
        cells = []
        for figure in SHOWN:
            means = [np.mean([row[figure] for row in of[name]]) for name in sets]
            low, high = _interval(of, figure)
            cells.append(f"{np.mean(means):+.3f} ({low:+.3f} to {high:+.3f})")
        worst = min(np.mean([row["rwap"] for row in of[name]]) for name in sets)
        spread = np.mean([np.std([row["value"] for row in of[name]]) for name in sets])
        cost = np.mean([row["cost"] for row in rows])
        shown.add_row(str(each), rule, *cells, f"{worst:+.3f}", f"{spread:.3f}", f"{cost:.1f}")
    return shown


def _interval(of: Mapping[str, list[dict[str, Any]]], figure: str) -> tuple[float, float]:
    """95 % of the mean over datasets, over resamples of draws within each."""
    rng, means = np.random.default_rng(0), []
    for _ in range(1000):
        parts = []
        for rows in of.values():
            draws = sorted({row["draw"] for row in rows})
            by = {d: np.mean([row[figure] for row in rows if row["draw"] == d]) for d in draws}
            parts.append(np.mean([by[d] for d in rng.choice(draws, len(draws))]))
        means.append(np.mean(parts))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
