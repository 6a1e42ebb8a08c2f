"""One configuration of any runner on real defects, alone or beside the same method of anomalib.

    python benchmarks/baselines.py --data ROOT:CATEGORY --method reverse_distillation \
        --set epochs=30 batch=16 --seeds 0 1 2
    ... --anomalib-python VENV/bin/python --peer ReverseDistillation --set backbone=resnet18

Every row is one detector, fitted on the normal images of the train split and judged on the test
split by the same functions; ± is the standard deviation over seeds. Nothing is chosen on test
images. The peer (`baselines_anomalib.py`, in its own environment) has the same images, as many
epochs of all of them and as many images a step, the same first learning rate, as wide networks
(DRAEM, CS-Flow), and the same weights in its backbone where its model has one; everything else is
anomalib's own. Its image AUROC is that of its own image scores.

GFLOPs of both are what torch counts of a pass over one image: convolutions and matrix products,
2 per multiply-add, a memory bank's search included. Minutes are of the training alone, with
``--threads``; latency is that of the exported graph in onnxruntime, one image on one thread. On a
machine that does other work at the same time neither says much.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from autosearch.backbones import measure_latency, resolve
from autosearch.contracts import registry
from autosearch.data import ImageSet, load_test_set
from autosearch.errors import ConfigError
from autosearch.graphs import Run, onnx_bytes, onnx_run
from autosearch.metrics import Ranking, auroc, image_scores
from autosearch.spec import Params, parse_spec
from autosearch.study import Inputs, build, load_inputs, maps_of, truth_of

PEERS = ("ReverseDistillation", "Fastflow", "Draem", "Patchcore", "Csflow")
FIGURES = ("image AUROC", "AP", "rwAP", "AUPRO")
GIVEN = ("lr", "base_width", "disc_width", "hidden")
"""Parameters that the peer takes from the runner's configuration, where that has them."""


@dataclass(frozen=True)
class Row:
    """What one seed of one method came to.

    Attributes:
        figures: In the order of `FIGURES`.
        gflops: Of one image.
        minutes: Of the training.
        latency: Of one image in milliseconds; None where it was not measured.
    """

    figures: tuple[float, ...]
    gflops: float
    minutes: float
    latency: float | None


def main() -> None:
    """Print one table."""
    given = _options()
    torch.set_num_threads(given.threads)
    inputs, canonical = _inputs(given)
    test, _ = load_test_set(inputs.spec.dataset)
    size = " x ".join(map(str, test.pixels.shape[2:]))
    train, category = len(inputs.data.train), given.data.rpartition(":")[2]
    title = (
        f"{category}, {size} pixels, {train} images to train on, {len(test)} to test on, "
        f"{given.threads} threads, load {os.getloadavg()[0]:.1f}"
    )
    table = Table("method", *FIGURES, "GFLOPs", "min", "ms", title=title, box=None)
    _add(table, given.method, _ours(inputs, canonical, test, given.seeds))
    if given.peer:
        _add(table, f"anomalib {given.peer}", _theirs(inputs, canonical, test, given))
    console = Console(width=120)
    console.print(table)
    console.print(json.dumps(canonical), highlight=False)
    console.print(json.dumps(inputs.runner.weights()), highlight=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="ROOT:CATEGORY")
    parser.add_argument("--method", required=True, help="a runner")
    parser.add_argument("--set", nargs="*", default=[], metavar="PARAM=VALUE", dest="params")
    parser.add_argument("--size", type=int, default=256, help="side of the input in pixels")
    parser.add_argument("--weights", default="auto", help="as backbone.weights of a spec")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of torch, for both")
    parser.add_argument(
        "--anomalib-python",
        type=Path,
        metavar="PATH",
        help="interpreter of an environment with anomalib, onnx and onnxscript",
    )
    parser.add_argument("--peer", choices=PEERS, help="anomalib's model to train beside it")
    parser.add_argument("--epochs", type=int, help="of the peer; else the runner's")
    parser.add_argument("--textures", type=Path, help="folder of images, for Draem")
    given = parser.parse_args()
    if (given.peer is None) != (given.anomalib_python is None):
        parser.error("--peer and --anomalib-python go together")
    return given


def _inputs(given: argparse.Namespace) -> tuple[Inputs, Params]:
    """Images and runner, and the configuration in its canonical form."""
    root, _, category = given.data.rpartition(":")
    pairs = [text.partition("=") for text in given.params]
    params = {name: yaml.safe_load(value) for name, _, value in pairs}
    # A space may not be empty.
    known = registry.load_runner(given.method).parameters
    fixed = params or {name: info.default for name, info in [*known.items()][:1]}
    content = {
        "study": {"name": "baselines", "runner": given.method, "trials": 1},
        "objectives": ["gflops", "rwap"],
        "dataset": {"root": root, "category": category, "image_size": {"side": given.size}},
        "backbone": {"weights": given.weights},
        "space": fixed,
    }
    if given.textures is not None:
        content["synthesis"] = {"textures": str(given.textures)}
    inputs = load_inputs(parse_spec(content))
    return inputs, inputs.runner.canonical(params)


def _ours(
    inputs: Inputs, canonical: Params, test: ImageSet, seeds: Sequence[int]
) -> Iterator[Row]:
    for seed in seeds:
        detector = build(inputs.spec, inputs.runner, canonical, seed, inputs.data.val)
        start = time.perf_counter()
        detector.fit(inputs.data.train)
        minutes = (time.perf_counter() - start) / 60
        module, image = detector.module(), torch.from_numpy(test.pixels[:1].copy())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(image.to(next(module.parameters(), image).device))
        size = (image.shape[2], image.shape[3])
        latency = None
        if seed == seeds[0]:
            latency = _latency(onnx_run(onnx_bytes(module, size), threads=1), test)
        maps = maps_of(detector, test)
        scores = image_scores(maps, detector.top_share)
        gflops = counter.get_total_flops() / 1e9
        yield Row(_figures(maps, scores, test), gflops, minutes, latency)


def _theirs(
    inputs: Inputs, canonical: Params, test: ImageSet, given: argparse.Namespace
) -> Iterator[Row]:
    """Train the peer on the very images, once for every seed, in its own environment."""
    epochs = given.epochs or canonical.get("epochs", 1)
    settings = {"epochs": epochs, "batch": canonical.get("batch", 8), "threads": given.threads}
    settings |= {name: canonical[name] for name in GIVEN if name in canonical}
    backbone = canonical.get("backbone")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.save(folder / "train.npy", inputs.data.train.pixels)
        np.save(folder / "test.npy", test.pixels)
        if backbone is not None:
            state = resolve(str(backbone), given.weights, inputs.spec.study.seed).state
            whole = {name: one.contiguous() for name, one in state.items()}
            safetensors.torch.save_file(whole, folder / "weights.safetensors")
            settings["backbone"] = backbone
        if given.textures is not None:
            settings["textures"] = str(given.textures.resolve())
        script = Path(__file__).with_name("baselines_anomalib.py")
        start = [str(given.anomalib_python), "-W", "ignore", str(script), str(folder), given.peer]
        asked = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        # The other environment must not see this one's packages.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        for seed in given.seeds:
            command = [*start, *asked, "--seed", str(seed)]
            subprocess.run(command, check=True, env=environment, cwd=folder)
            maps, scores = (np.load(folder / f"{name}.npy") for name in ("maps", "scores"))
            if maps.shape != test.masks.shape:
                raise ConfigError("--peer", given.peer, f"maps of {test.masks.shape}")
            made = json.loads((folder / "peer.json").read_text(encoding="utf-8"))
            latency, graph = None, folder / "model.onnx"
            if seed == given.seeds[0] and graph.exists():
                latency = _latency(onnx_run(graph.read_bytes(), threads=1), test)
            figures = _figures(maps, scores, test)
            yield Row(figures, made["flops"] / 1e9, made["seconds"] / 60, latency)


def _figures(
    maps: NDArray[np.float32], scores: NDArray[np.floating], test: ImageSet
) -> tuple[float, ...]:
    truth = truth_of(test)
    ranking = Ranking.from_maps(maps, truth)
    return auroc(scores, truth.labels), ranking.ap(), ranking.rwap(), ranking.aupro()


def _latency(run: Run, test: ImageSet) -> float:
    image = np.ascontiguousarray(test.pixels[:1])
    return measure_latency(lambda: run(image))


def _add(table: Table, name: str, rows: Iterator[Row]) -> None:
    found = list(rows)
    figures = [_spread([row.figures[number] for row in found]) for number in range(len(FIGURES))]
    latency = found[0].latency
    table.add_row(
        name,
        *figures,
        f"{found[0].gflops:.2f}",
        f"{np.mean([row.minutes for row in found]):.2f}",
        "-" if latency is None else f"{latency:.1f}",
    )


def _spread(values: list[float]) -> str:
    plain = f"{np.mean(values):.3f}"
    return plain + (f" ±{np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
