"""Exported models beside anomalib's PatchCore: how fast, how large, how accurate.

    python benchmarks/inference.py --anomalib-python VENV/bin/python --data ROOT:CATEGORY

Compared are, as ``autosearch export`` writes them, the configuration that PatchCore fixes (maps
of 1/8 and 1/16 resolution, neighbourhoods of 3) on EfficientNet-Lite0 with a coreset, and a trial
of a study on the same images (``--study DIR --trial N``), with its own memory bank and with the
same coreset. The peer is anomalib's PatchCore with the same backbone, weights, layers, coreset
ratio and images, exported by its own ``to_onnx``; it is trained in its own environment
(`inference_anomalib.py`).

Every graph is run by the same function with the same number of threads, on images that are
decoded, resized and in memory. Models take turns, so that a busy machine hits all of them alike:
a ratio is the median over the rounds of what the peer took in a round, divided by what the model
took in the same round. AP and rwAP are those of the test split, by the maps of the runtime timed.
A model of another AP than the peer's is another trade: look at both columns.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors.torch
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from autosearch.backbones import DEFAULT_BACKBONE, resolve
from autosearch.data import ImageSet, load_search_data, load_test_set
from autosearch.errors import ConfigError
from autosearch.export import ONNX, read_manifest
from autosearch.graphs import Images, Run, largest_difference, onnx_run, openvino_run
from autosearch.metrics import Ranking
from autosearch.spec import DatasetSpec
from autosearch.storage import StudyFolder
from autosearch.study import all_normal, truth_of

PEER = "anomalib PatchCore"
PARITY = 1e-3
"""Largest difference of the peer's graph from its own torch model, else its AP means nothing."""
FIXED = {
    "study": {"name": "fixed", "runner": "patchcore", "trials": 1},
    "objectives": ["gflops", "rwap"],
    "space": {
        "backbone": DEFAULT_BACKBONE,
        "level2.extract": True,
        "level2.patch_size": 3,
        "level3.extract": True,
        "level3.patch_size": 3,
    },
}
RUNTIMES: dict[str, Callable[[bytes, int], Run]] = {
    "onnxruntime": lambda graph, threads: onnx_run(graph, threads=threads),
    "openvino": lambda graph, threads: openvino_run(graph, None, threads),
}


@dataclass(frozen=True)
class Model:
    """A model to be timed.

    Attributes:
        name: As the table shows it.
        graphs: ONNX file by batch size.
    """

    name: str
    graphs: Mapping[int, bytes]


def main() -> None:
    """Print one table."""
    options = _options()
    root, category = options.data.rsplit(":", 1)
    settings = ["--set", f"dataset.root={root}", "--set", f"dataset.category={category}"]
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / "fixed.yaml").write_text(yaml.safe_dump(FIXED), encoding="utf-8")
        run = ["autosearch", "run", str(work / "fixed.yaml"), "--results", place, *settings]
        subprocess.run([*run, "--executor", "local"], check=True)
        ours = _exported(work, options)
        dataset = StudyFolder.open(work / "fixed").load_spec().dataset
        test, _ = load_test_set(dataset)
        peer, about = _peer(work, dataset, test, options)
    models, before = [peer, *ours], os.getloadavg()[0]
    table = _table()
    installed = [name for name in RUNTIMES if importlib.util.find_spec(name)]
    for runtime in installed:
        _measure(table, runtime, models, test, options)
    console = Console(width=140)
    console.print(
        f"\n{category}: {len(test)} test images. {options.threads} threads, "
        + ", ".join(f"{name} {version(name)}" for name in installed)
        + f". Peer: {about}.\nLoad of the machine: {before:.1f} before timing, "
        f"{os.getloadavg()[0]:.1f} after, with the threads timed.\n",
        highlight=False,
    )
    console.print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--anomalib-python",
        type=Path,
        required=True,
        metavar="PATH",
        help="interpreter of an environment with anomalib, onnx and onnxscript",
    )
    parser.add_argument("--data", required=True, metavar="ROOT:CATEGORY")
    parser.add_argument("--study", type=Path, help="folder of a study on the same images")
    parser.add_argument("--trial", type=int, help="its trial to compare")
    parser.add_argument("--coreset", type=float, default=0.1, help="share of patches kept")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one turn of a model")
    given = parser.parse_args()
    if (given.study is None) != (given.trial is None):
        parser.error("--study and --trial go together")
    return given


def _exported(work: Path, options: argparse.Namespace) -> list[Model]:
    """Our side; all of its models know the same images."""
    kept = f"coreset {options.coreset:g}"
    wanted = [(f"fixed layers, {kept}", work / "fixed", 0, options.coreset)]
    if options.study is not None:
        name = f"{options.study.name}, trial {options.trial}"
        wanted.append((f"{name}, {kept}", options.study, options.trial, options.coreset))
        wanted.append((f"{name}, own bank", options.study, options.trial, None))
    models, seen = [], set()
    for number, (name, study, trial, coreset) in enumerate(wanted):
        out = work / f"export-{number}"
        command = ["autosearch", "export", str(study), "--trial", str(trial), "--out", str(out)]
        ratio = [] if coreset is None else ["--coreset", str(coreset)]
        subprocess.run([*command, "--format", "onnx", *ratio], check=True)
        manifest = read_manifest(out)
        seen.add((manifest["dataset"]["sha256"], manifest["input"]["shape"][-1]))
        graph = (out / ONNX).read_bytes()
        models.append(Model(name, dict.fromkeys(options.batches, graph)))
    if len(seen) > 1:
        raise ConfigError("--study", str(options.study), "a study on the images of --data")
    return models


def _peer(
    work: Path, dataset: DatasetSpec, test: ImageSet, options: argparse.Namespace
) -> tuple[Model, str]:
    """Train the peer on the images that our exports know, check its graphs, say what it is."""
    folder = work / "anomalib"
    folder.mkdir()
    np.save(folder / "train.npy", all_normal(load_search_data(dataset)).pixels)
    np.save(folder / "test.npy", test.pixels)
    state = {k: v.contiguous() for k, v in resolve(DEFAULT_BACKBONE, "bundled", 0).state.items()}
    safetensors.torch.save_file(state, folder / "weights.safetensors")
    script = Path(__file__).with_name("inference_anomalib.py")
    batches = [str(batch) for batch in options.batches]
    command = [str(options.anomalib_python), "-W", "ignore", str(script), str(folder)]
    settings = {
        "backbone": DEFAULT_BACKBONE,
        "coreset": options.coreset,
        "threads": options.threads,
    }
    given = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    # The other environment must not see this one's packages.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([*command, *given, "--batches", *batches], check=True, env=environment)
    graphs = {batch: (folder / f"batch-{batch}.onnx").read_bytes() for batch in options.batches}
    reference = np.load(folder / "maps.npy")
    differences = [
        largest_difference(reference[:batch], _maps(onnx_run(graph), test.pixels[:batch]))
        for batch, graph in graphs.items()
    ]
    if not max(differences) <= PARITY:
        raise SystemExit(f"{PEER}: its graph differs from its model by {max(differences):.1e}")
    made = json.loads((folder / "peer.json").read_text(encoding="utf-8"))
    about = (
        f"anomalib {made['anomalib']} with torch {made['torch']}, {made['patches']} patches, "
        f"its graphs within {max(differences):.0e} of its model"
    )
    return Model(PEER, graphs), about


def _table() -> Table:
    table = Table(box=None)
    table.add_column("model")
    table.add_column("runtime")
    for name in ("MB", "AP", "rwAP", "batch", "ms", "images/s", "times the peer", "of rounds"):
        table.add_column(name, justify="right")
    return table


def _measure(
    table: Table,
    runtime: str,
    models: Sequence[Model],
    test: ImageSet,
    options: argparse.Namespace,
) -> None:
    """Add the rows of one runtime."""
    truth = truth_of(test)
    for batch in options.batches:
        runs = [RUNTIMES[runtime](model.graphs[batch], options.threads) for model in models]
        images = np.ascontiguousarray(test.pixels[:batch])
        seconds = _seconds(runs, images, options.rounds, options.seconds)
        typical = np.array([[np.median(turn) for turn in turns] for turns in seconds])
        for model, run, turns, own in zip(models, runs, seconds, typical, strict=True):
            ranking = Ranking.from_maps(_maps(run, test.pixels, batch), truth)
            middle = float(np.median(np.concatenate(turns)))
            ratios = typical[0] / own
            table.add_row(
                model.name,
                runtime,
                f"{len(model.graphs[batch]) / 1e6:.1f}",
                f"{ranking.ap():.4f}",
                f"{ranking.rwap():.4f}",
                str(batch),
                f"{1e3 * middle:.2f}",
                f"{batch / middle:.1f}",
                f"{np.median(ratios):.2f}",
                f"{ratios.min():.2f} to {ratios.max():.2f}",
            )


def _seconds(
    runs: Sequence[Run], images: Images, rounds: int, least: float
) -> list[list[NDArray[np.float64]]]:
    """Seconds of every call, by model and round; models take turns of at least ``least``."""
    found: list[list[NDArray[np.float64]]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, turns in zip(runs, found, strict=True):
            # Threads of the model before may still be spinning.
            run(images)
            calls: list[float] = []
            while sum(calls) < least or len(calls) < 3:
                start = time.perf_counter()
                run(images)
                calls.append(time.perf_counter() - start)
            turns.append(np.array(calls))
    return found


def _maps(run: Run, images: Images, batch: int | None = None) -> NDArray[np.float32]:
    """``(N, S, S)`` maps, in batches of exactly ``batch``, the last one filled up with repeats."""
    size = batch or len(images)
    parts = []
    for start in range(0, len(images), size):
        chosen = np.arange(start, start + size) % len(images)
        # Of the two outputs, scores and maps in either order, maps have more dimensions.
        answer = max(run(np.ascontiguousarray(images[chosen])), key=lambda output: output.ndim)
        parts.append(answer.reshape(size, *images.shape[-2:]))
    maps: NDArray[np.float32] = np.concatenate(parts)[: len(images)]
    return maps


if __name__ == "__main__":
    main()
