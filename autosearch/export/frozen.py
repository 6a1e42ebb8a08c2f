"""A fitted detector in the formats that can be carried away, each checked against torch."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from autosearch.contracts import Detector, StagedDetector, TiledDetector, shared_tensor
from autosearch.data import ImageSet, numbered
from autosearch.errors import ConfigError
from autosearch.export.folder import (
    ONNX,
    ONNX_DATA,
    OPENVINO,
    OPENVINO_DATA,
    TENSORS,
)
from autosearch.graphs import (
    GRAPH_PACKAGES,
    INT8_PACKAGES,
    MAX_BYTES,
    OPSET,
    ModelError,
    Run,
    TooLarge,
    graph_latency,
    largest_difference,
    needed,
    onnx_beside,
    onnx_bytes,
    onnx_run,
    openvino_files,
    openvino_run,
    round_to_half,
    stored_in_half,
    write_graph,
)
from autosearch.metrics import image_scores

FORMATS = ("onnx", "openvino", "torch", "onnx-static", "openvino-int8")
"""What can be written; ``torch`` means the tensors alone. For the last two see `static` and `int8`
beside this module."""

TOLERANCE = 1e-4
"""Largest difference between runtimes, as `largest_difference` measures it."""

LATENCY_THREADS = 2
"""Of studies that do not say on how many threads graphs are timed."""

_FILES = (ONNX, ONNX_DATA, OPENVINO, OPENVINO_DATA, TENSORS)

Maps = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass
class Frozen:
    """The exported detector: its files so far, and how runtimes agree on a few images.

    Attributes:
        files: By name.
        parity: Runtime and batch to the largest difference to torch.
        latency: Of one pass of a graph, in milliseconds, by runtime.
        half_error: Largest difference that half precision makes.
        tiles: Passes that an image takes.
        threads: On which passes are timed.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    parity: dict[str, dict[str, float]] = field(default_factory=dict)
    latency: dict[str, float] = field(default_factory=dict)
    half_error: float | None = None
    tiles: int = 1
    threads: int = LATENCY_THREADS


def check_formats(formats: tuple[str, ...]) -> None:
    """Refuse a format that is unknown or cannot be written here.

    Raises:
        ConfigError: Names the format, or the package to install.
    """
    for name in formats:
        if name not in FORMATS:
            raise ConfigError("--format", name, f"among {', '.join(FORMATS)}")
    for name, packages in {
        "onnx": GRAPH_PACKAGES,
        "openvino": ("onnx", "onnxscript", "openvino"),
        "onnx-static": GRAPH_PACKAGES,
        "openvino-int8": ("onnx", "onnxscript", *INT8_PACKAGES),
    }.items():
        if name in formats:
            for package in packages:
                needed(package)


def freeze(
    detector: Detector,
    val: ImageSet,
    formats: tuple[str, ...],
    half: bool,
    say: Say,
    opset: int = OPSET,
    threads: int = LATENCY_THREADS,
    limit: int = MAX_BYTES,
) -> Frozen:
    """Write the graph in every format, and compare each with torch on anomalous images first.

    Of a detector of tiles the graph is that of a tile, and tiles are compared; where every
    position has a detector, each has a graph. Of one that preprocesses pictures on the canvas the
    graph is that of pictures which were, and such are compared. Large tensors of a graph of more
    bytes than ``limit`` lie in a file beside it.
    """
    frozen, parts = Frozen(threads=threads), parts_of(detector, val)
    if isinstance(detector, TiledDetector):
        frozen.tiles = len(detector.grid)
    for number, (part, images) in enumerate(parts):
        if len(parts) > 1:
            say(f"tile {number + 1} of {len(parts)}")
        names = {name: numbered(name, number, len(parts)) for name in _FILES}
        _freeze(frozen, part, images, formats, half, opset, names, say, limit)
    return frozen


def parts_of(detector: Detector, val: ImageSet) -> list[tuple[Detector, Maps]]:
    """Detectors with a graph of their own, each with up to three images that it is asked."""
    order = np.argsort(~val.labels, kind="stable")[:3]
    if isinstance(detector, StagedDetector):
        return [(detector.inner, detector.stage.all_seen(val.pixels[order])[0])]
    if not isinstance(detector, TiledDetector):
        return [(detector, np.ascontiguousarray(val.pixels[order]))]
    if len(detector.parts) > 1:
        return list(zip(detector.parts, detector.grid.cut(val.pixels[order]), strict=True))
    # Differences are told as shares of the highest score, so it should be among those compared.
    images = val.pixels[order[: 1 if len(detector.grid) > 2 else 2]]
    tiles = np.concatenate([detector.grid.cut(image) for image in images])
    part = detector.parts[0]
    highest = np.argsort(-image_scores(part.anomaly_maps(shared_tensor(tiles)).numpy()))
    return [(part, tiles[highest[:3]])]


def _freeze(
    frozen: Frozen,
    detector: Detector,
    images: Maps,
    formats: tuple[str, ...],
    half: bool,
    opset: int,
    names: Mapping[str, str],
    say: Say,
    limit: int,
) -> None:
    """The same of one graph, whose files have names of their own."""
    reference, share = detector.anomaly_maps(shared_tensor(images)).numpy(), detector.top_share
    # What the detector shares with its module must not be moved or rounded.
    module = copy.deepcopy(detector.module()).cpu().eval()
    if half:
        round_to_half(module)
        exact, reference = reference, _module_maps(module, images)
        error = largest_difference(exact, reference)
        frozen.half_error = max(error, frozen.half_error or 0.0)
    _time(frozen, "torch", lambda noise: _module_maps(module, noise), images)
    if "torch" in formats:
        frozen.files[names[TENSORS]] = _tensors(module, half)
    if not {"onnx", "openvino"} & set(formats):
        return
    say("writing and checking the ONNX graph")
    size = (images.shape[2], images.shape[3])
    try:
        files = {names[ONNX]: onnx_bytes(module, size, half, opset, share, limit)}
    except TooLarge:
        both = onnx_beside(module, size, names[ONNX_DATA], half, opset, share)
        files = dict(zip((names[ONNX], names[ONNX_DATA]), both, strict=True))
    with _readable(files) as graph:
        if "onnx" in formats:
            frozen.files |= files
            run = onnx_run(graph, threads=frozen.threads)
            _verify(frozen, "onnxruntime", run, images, reference, share)
        if "openvino" in formats:
            say("writing and checking the OpenVINO model")
            network, data = openvino_files(graph)
            frozen.files |= {names[OPENVINO]: network, names[OPENVINO_DATA]: data}
            run = openvino_run(network, data, frozen.threads)
            _verify(frozen, "openvino", run, images, reference, share)


@contextmanager
def _readable(files: Mapping[str, bytes]) -> Iterator[bytes | Path]:
    """A graph in memory, or on the disk for as long as it takes, where it is of two files."""
    graph, *beside = files.items()
    if not beside:
        yield graph[1]
        return
    with tempfile.TemporaryDirectory() as place:
        yield write_graph(Path(place), graph[1], *beside[0])


def _verify(
    frozen: Frozen,
    name: str,
    run: Run,
    images: Maps,
    reference: Maps,
    top_share: float | None,
) -> None:
    for batch in (1, len(images)):
        maps, scores = run(images[:batch])
        own = image_scores(reference[:batch], top_share)
        difference = max(
            largest_difference(reference[:batch], maps),
            largest_difference(own.astype(np.float32), scores),
        )
        if not difference <= TOLERANCE:
            raise ModelError(
                f"{name}: its maps differ from torch's by {difference:.2g} of the highest score "
                f"at batch {batch}; at most {TOLERANCE:g} is allowed; nothing was exported"
            )
        known, key = frozen.parity.setdefault(name, {}), f"batch_{batch}"
        known[key] = max(difference, known.get(key, 0.0))
    _time(frozen, name, run, images)


def _time(frozen: Frozen, name: str, run: Callable[[Maps], object], images: Maps) -> None:
    """Measure how long a graph takes; of several alike, the first."""
    if name not in frozen.latency:
        size = (images.shape[2], images.shape[3])
        frozen.latency[name] = _latency(run, size, frozen.threads)


def _latency(run: Callable[[Maps], object], size: tuple[int, int], threads: int) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return round(graph_latency(run, size), 3)
    finally:
        torch.set_num_threads(before)


def _tensors(module: nn.Module, half: bool) -> bytes:
    state = module.state_dict()
    stored = {
        name: (value.half() if half and stored_in_half(value) else value).contiguous()
        for name, value in state.items()
    }
    return safetensors.torch.save(stored)


def _module_maps(module: nn.Module, images: Maps) -> Maps:
    with torch.inference_mode():
        maps: Maps = module(torch.from_numpy(images)).numpy()
    return maps
