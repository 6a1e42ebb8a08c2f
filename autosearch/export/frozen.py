"""A fitted detector in the formats that can be carried away, each checked against torch."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from autosearch.backbones import measure_latency
from autosearch.contracts import Detector, shared_tensor
from autosearch.data import ImageSet
from autosearch.errors import ConfigError
from autosearch.export.folder import (
    ONNX,
    OPENVINO,
    OPENVINO_DATA,
    TENSORS,
    ModelError,
    Run,
    needed,
    onnx_run,
    openvino_run,
)
from autosearch.export.onnx_graph import (
    largest_difference,
    onnx_bytes,
    round_to_half,
    stored_in_half,
)
from autosearch.metrics import image_scores

FORMATS = ("onnx", "openvino", "torch")
"""What can be written; ``torch`` means the tensors alone."""

TOLERANCE = 1e-4
"""Largest difference between runtimes, as `largest_difference` measures it."""

LATENCY_THREADS = 2

Maps = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass
class Frozen:
    """The exported detector: its files so far, and how runtimes agree on a few images."""

    files: dict[str, bytes] = field(default_factory=dict)
    parity: dict[str, dict[str, float]] = field(default_factory=dict)
    latency: dict[str, float] = field(default_factory=dict)
    half_error: float | None = None


def check_formats(formats: tuple[str, ...]) -> None:
    """Refuse a format that is unknown or cannot be written here.

    Raises:
        ConfigError: Names the format, or the package to install.
    """
    for name in formats:
        if name not in FORMATS:
            raise ConfigError("--format", name, f"among {', '.join(FORMATS)}")
    for name, packages in {
        "onnx": ("onnx", "onnxscript", "onnxruntime"),
        "openvino": ("onnx", "onnxscript", "openvino"),
    }.items():
        if name in formats:
            for package in packages:
                needed(package)


def freeze(
    detector: Detector, val: ImageSet, formats: tuple[str, ...], half: bool, say: Say
) -> Frozen:
    """Write the graph in every format, and compare each with torch on anomalous images first."""
    frozen = Frozen()
    order = np.argsort(~val.labels, kind="stable")[:3]
    images = np.ascontiguousarray(val.pixels[order])
    reference = detector.anomaly_maps(shared_tensor(images)).numpy()
    # What the detector shares with its module must not be moved or rounded.
    module = copy.deepcopy(detector.module()).cpu().eval()
    if half:
        round_to_half(module)
        exact, reference = reference, _module_maps(module, images)
        frozen.half_error = largest_difference(exact, reference)
    frozen.latency["torch"] = _latency(lambda: _module_maps(module, images[:1]))
    if "torch" in formats:
        frozen.files[TENSORS] = _tensors(module, half)
    if {"onnx", "openvino"} & set(formats):
        say("writing and checking the ONNX graph")
        graph = onnx_bytes(module, (images.shape[2], images.shape[3]), half)
    if "onnx" in formats:
        frozen.files[ONNX] = graph
        run = onnx_run(graph, threads=LATENCY_THREADS)
        _verify(frozen, "onnxruntime", run, images, reference)
    if "openvino" in formats:
        say("writing and checking the OpenVINO model")
        frozen.files |= _openvino_files(graph)
        run = openvino_run(frozen.files[OPENVINO], frozen.files[OPENVINO_DATA], LATENCY_THREADS)
        _verify(frozen, "openvino", run, images, reference)
    return frozen


def _verify(frozen: Frozen, name: str, run: Run, images: Maps, reference: Maps) -> None:
    for batch in (1, len(images)):
        maps, scores = run(images[:batch])
        difference = max(
            largest_difference(reference[:batch], maps),
            largest_difference(image_scores(reference[:batch]).astype(np.float32), scores),
        )
        if not difference <= TOLERANCE:
            raise ModelError(
                f"{name}: its maps differ from torch's by {difference:.2g} of the highest score "
                f"at batch {batch}; at most {TOLERANCE:g} is allowed; nothing was exported"
            )
        frozen.parity.setdefault(name, {})[f"batch_{batch}"] = difference
    frozen.latency[name] = _latency(lambda: run(images[:1]))


def _latency(call: Callable[[], object]) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(LATENCY_THREADS)
    try:
        return round(measure_latency(call), 3)
    finally:
        torch.set_num_threads(before)


def _tensors(module: nn.Module, half: bool) -> bytes:
    state = module.state_dict()
    stored = {
        name: (value.half() if half and stored_in_half(value) else value).contiguous()
        for name, value in state.items()
    }
    return safetensors.torch.save(stored)


def _openvino_files(graph: bytes) -> dict[str, bytes]:
    openvino = needed("openvino")
    with tempfile.TemporaryDirectory() as place:
        model = openvino.Core().read_model(graph)
        # Its own compression would round what follows from other tensors, such as their norms.
        openvino.save_model(model, Path(place, OPENVINO), compress_to_fp16=False)
        return {name: Path(place, name).read_bytes() for name in (OPENVINO, OPENVINO_DATA)}


def _module_maps(module: nn.Module, images: Maps) -> Maps:
    with torch.inference_mode():
        maps: Maps = module(torch.from_numpy(images)).numpy()
    return maps
