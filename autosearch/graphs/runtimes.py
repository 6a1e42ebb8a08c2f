"""What runs a detector's graph: onnxruntime or OpenVINO, on images in memory. Free of torch.

A graph is given as its bytes, which then hold all of it, or as the path of a file that may keep
tensors in another one beside it.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.errors import AutosearchError, ConfigError

_EXTERNAL = b"\n\x08location"
"""Of a tensor in an ONNX file: the name of the file that holds its values."""
_LOCATION = re.compile(re.escape(_EXTERNAL) + rb"\x12([\x00-\x7f])")
_INSTALL = {
    "onnxruntime": "the package onnxruntime: pip install 'autosearch[export]'",
    "openvino": "the package openvino: pip install 'autosearch[openvino]'",
    "nncf": "the package nncf: pip install 'autosearch[int8]'",
}
_WITHOUT_TELEMETRY = "NNCF_CI"
"""With this variable of the environment, NNCF sends nothing to anybody."""

Images = NDArray[np.float32]
Answer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""``(N, H, W)`` anomaly maps and ``(N,)`` image scores."""
Run = Callable[[Images], Answer]
"""From ``(N, 3, H, W)`` float32 RGB in [0, 1] to maps and scores."""


class ModelError(AutosearchError):
    """An exported model cannot be used: missing, incomplete, damaged or changed."""


def onnx_run(graph: bytes | Path, provider: str = "cpu", threads: int | None = None) -> Run:
    """Make onnxruntime ready to run a graph.

    Raises:
        ConfigError: onnxruntime is not installed, or has no such provider.
        ModelError: onnxruntime refuses the graph.
    """
    runtime = needed("onnxruntime")
    wanted = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[provider]
    if wanted not in runtime.get_available_providers():
        raise ConfigError("--provider", provider, "cpu, or a build of onnxruntime for it")
    options = runtime.SessionOptions()
    # Its errors are raised as well.
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        source = graph if isinstance(graph, bytes) else str(graph)
        session = runtime.InferenceSession(source, options, providers=[wanted])
    except Exception as error:  # its errors share no base class
        raise ModelError(f"the ONNX graph: onnxruntime refuses it: {_line(error)}") from None
    name = session.get_inputs()[0].name

    def run(images: Images) -> Answer:
        maps, scores = session.run(None, {name: images})
        return maps, scores

    return run


def openvino_run(graph: bytes | Path, data: bytes | None, threads: int | None = None) -> Run:
    """Make OpenVINO ready to run a graph on the CPU.

    Args:
        graph: An ONNX file, or the XML file of OpenVINO's own format.
        data: The file that goes with the XML.
        threads: CPU threads; by default the runtime's own choice.

    Raises:
        ConfigError: OpenVINO is not installed.
        ModelError: OpenVINO refuses the graph.
    """
    if data is None and isinstance(graph, bytes) and _EXTERNAL in graph:
        raise ModelError("the ONNX graph: keeps tensors in other files, which are not read")
    core = openvino_core()
    # Results must not depend on whether the processor has a type shorter than float32.
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        model = core.read_model(graph) if data is None else core.read_model(graph, data)
        compiled = core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise ModelError(f"the graph: OpenVINO refuses it: {_line(error)}") from None

    def run(images: Images) -> Answer:
        found = compiled(images)
        return found[0], found[1]

    return run


def openvino_core() -> Any:
    """OpenVINO's devices: one set of them for as long as the process lasts.

    A CPU device gives the thread that makes it a stack to handle signals on. Once two devices are
    gone, the first before the second, that stack is memory that was given back, and the next
    signal, be it Ctrl-C, is a segmentation fault (OpenVINO 2026.4).

    Raises:
        ConfigError: OpenVINO is not installed.
    """
    return _core(needed("openvino"))


@cache
def _core(openvino: Any) -> Any:
    return openvino.Core()


def check_beside(graph: bytes, name: str) -> None:
    """Refuse a graph that looks for tensors in any other file than the one beside it.

    Raises:
        ModelError: It does.
    """
    named = {graph[m.end() : m.end() + m[1][0]] for m in _LOCATION.finditer(graph)}
    if graph.count(_EXTERNAL) != len(_LOCATION.findall(graph)) or named - {name.encode()}:
        raise ModelError(f"the ONNX graph: keeps tensors in other files than {name}")


def needed(package: str) -> Any:
    """Import a package that only graphs need.

    Raises:
        ConfigError: It is not installed; names what to install.
    """
    try:
        with _untold() if package == "nncf" else contextlib.nullcontext():
            return importlib.import_module(package)
    except ImportError as error:
        remedy = _INSTALL.get(package, _INSTALL["onnxruntime"].replace("onnxruntime", package))
        raise ConfigError(package, f"not installed ({_line(error)})", remedy) from None


@contextlib.contextmanager
def _untold() -> Iterator[None]:
    """Ask NNCF to tell nobody of its use: that is decided when it is imported, by whomever."""
    before = os.environ.get(_WITHOUT_TELEMETRY)
    os.environ[_WITHOUT_TELEMETRY] = "1"
    # It loads torch's compiler of extensions, which tells of a CUDA that nobody asked for.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_WITHOUT_TELEMETRY]
        else:
            os.environ[_WITHOUT_TELEMETRY] = before


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
