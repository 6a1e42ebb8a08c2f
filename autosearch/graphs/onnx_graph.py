"""From a detector's module to one ONNX file, and how far two runtimes are apart."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autosearch.errors import ConfigError
from autosearch.graphs.runtimes import needed
from autosearch.metrics import pixels_of_share

OPSET = 18
"""What graphs are written in unless somebody asks for another."""
OPSETS = range(15, OPSET + 1)
"""What they can be written in: ONNX converts none of ours to less."""
OLDEST_RUNTIME = "1.16.3"
"""The oldest version of ONNX Runtime that was seen to compute the same maps from such graphs."""
INPUT, MAPS, SCORES = "images", "anomaly_map", "score"

_ROUNDED_FROM = 1024
"""Tensors of fewer numbers are not worth half precision."""
_LARGEST_BATCH = 65_536
"""Of images; a number that the exporter wants and no file holds."""
MAX_BYTES = 2_000_000_000
"""Protocol buffers, of which an ONNX file consists, end at 2 GiB."""


class TooLarge(ConfigError):
    """A graph holds more than one file can."""


class WithScore(nn.Module):
    """A detector's module that also returns the image score.

    Args:
        module: ``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``.
        top_share: Share of the highest values of a map whose mean it is; None: the highest alone.
    """

    def __init__(self, module: nn.Module, top_share: float | None = None) -> None:
        super().__init__()
        self.module, self.top_share = module, top_share

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, 3, H, W)`` in [0, 1] to maps ``(N, H, W)`` and scores ``(N,)``."""
        maps = self.module(images)
        if self.top_share is None:
            return maps, maps.amax(dim=(1, 2))
        number = pixels_of_share(self.top_share, maps.shape[1] * maps.shape[2])
        highest = maps.flatten(1).topk(number, dim=1, sorted=False).values
        return maps, highest.mean(dim=1)


def round_to_half(module: nn.Module) -> None:
    """Round the large float32 tensors of a module's state to half precision, in place.

    They stay float32, so that the module runs as before; `onnx_bytes` stores them in 16 bits.

    Raises:
        ConfigError: A value is beyond the range of half precision.
    """
    state = module.state_dict()
    for name, tensor in state.items():
        if stored_in_half(tensor):
            state[name] = tensor.half().float()
            if not torch.isfinite(state[name]).all():
                raise ConfigError("--half", name, "tensors below 65504; export without it")
    module.load_state_dict(state)


def stored_in_half(tensor: Tensor) -> bool:
    """Whether `round_to_half` rounds this tensor."""
    return tensor.dtype == torch.float32 and tensor.numel() >= _ROUNDED_FROM


def check_opset(opset: int) -> None:
    """Refuse an opset that graphs are not written in.

    Raises:
        ConfigError: It is not among `OPSETS`.
    """
    if opset not in OPSETS:
        raise ConfigError("--opset", opset, f"a whole number from {OPSETS[0]} to {OPSETS[-1]}")


def onnx_bytes(
    module: nn.Module,
    image_size: tuple[int, int],
    half: bool = False,
    opset: int = OPSET,
    top_share: float | None = None,
    limit: int = MAX_BYTES,
) -> bytes:
    """The ONNX file of a module, for batches of any size; checked against the standard.

    Args:
        module: ``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``, on the CPU, in evaluation mode.
        image_size: ``(H, W)``.
        half: Store tensors that `round_to_half` has rounded in 16 bits. Their values are the
            same, and all arithmetic stays in float32.
        opset: Among `OPSETS`. The file has the lowest IR version that the opset allows.
        top_share: Of the scores; see `autosearch.contracts.Detector`.
        limit: Bytes that the file may hold; see `onnx_beside` for more.

    Raises:
        ConfigError: Packages for export are missing or too old.
        TooLarge: The file would pass 2 GB.
    """
    held = sum(tensor.nbytes for tensor in module.state_dict().values())
    _check_bytes(held // (2 if half else 1), limit)
    model = onnx_model(module, image_size, half, opset, top_share)
    _check_bytes(sum(len(tensor.raw_data) for tensor in model.graph.initializer), limit)
    content: bytes = model.SerializeToString()
    needed("onnx").checker.check_model(content, full_check=True)
    return content


def onnx_model(
    module: nn.Module,
    image_size: tuple[int, int],
    half: bool,
    opset: int,
    top_share: float | None,
    batch: int | None = None,
) -> Any:
    """The graph in memory, where it may be of any size; see `onnx_bytes`.

    With ``batch`` it is for so many images and no other number.
    """
    onnx = needed("onnx")
    needed("onnxscript")
    example = (torch.zeros(batch or 2, 3, *image_size),)
    # Without a bound, torch before 2.8 finds one of its own and refuses.
    free = ({0: torch.export.Dim("batch", max=_LARGEST_BATCH)},)
    with warnings.catch_warnings(), torch.no_grad(), _copying(module), _quiet():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            WithScore(module, top_share).eval(),
            example,
            dynamo=True,
            input_names=[INPUT],
            output_names=[MAPS, SCORES],
            dynamic_shapes=free if batch is None else None,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    model = _converted(onnx, program.model_proto, opset)
    _forget_origin(model)
    if half:
        _store_in_half(onnx, model)
    return model


def _check_bytes(held: int, limit: int) -> None:
    if held > limit:
        raise TooLarge("graph", f"{held / 1e9:.1f} GB", f"at most {limit / 1e9:g} GB a file")


def largest_difference(reference: NDArray[np.float32], maps: NDArray[np.float32]) -> float:
    """Largest difference of two sets of maps, as a share of the reference's highest score.

    Scores start at 0 for normal patches and have no unit; what a difference means depends on the
    scores that decide, which are the high ones.
    """
    scale = float(np.abs(reference).max())
    return float(np.abs(maps - reference).max()) / (scale or 1.0)


@contextmanager
def _copying(module: nn.Module) -> Iterator[None]:
    """Let activations write into tensors of their own meanwhile.

    The graph is the same, but the exporter needs two thirds of the time: what works in place it
    first takes apart.
    """
    found = [part for part in module.modules() if getattr(part, "inplace", False)]
    try:
        for part in found:
            vars(part).update(inplace=False)
        yield
    finally:
        for part in found:
            vars(part).update(inplace=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from telling about every constant that it leaves as it is."""
    logger = logging.getLogger("onnxscript")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _forget_origin(model: Any) -> None:
    """Drop what the exporter notes of source files: paths of this machine."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        part.doc_string = ""
        del part.metadata_props[:]
    for part in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def _converted(onnx: Any, model: Any, opset: int) -> Any:
    """The graph in an opset, with the lowest IR version that goes with it."""
    if opset != OPSET:
        # A reduction's default, which the converter would keep where it does not exist yet.
        for node in model.graph.node:
            kept = [a for a in node.attribute if a.name != "noop_with_empty_axes" or a.i]
            del node.attribute[:]
            node.attribute.extend(kept)
        try:
            model = onnx.version_converter.convert_version(model, opset)
        except RuntimeError as error:
            reason = str(error).rpartition("failed: ")[2]
            allowed = f"{OPSET}, as onnx {onnx.__version__} cannot convert to it ({reason})"
            raise ConfigError("--opset", opset, f"{allowed}; a newer onnx may") from None
    # Some exporters name domains of their own that nothing is left of.
    standard = [used for used in model.opset_import if used.domain == ""]
    model.ir_version = onnx.helper.find_min_ir_version_for(standard)
    return model


def _store_in_half(onnx: Any, model: Any) -> None:
    """Store tensors that are no less exact in 16 bits so, with a cast behind each."""
    casts = []
    for stored in model.graph.initializer:
        values = onnx.numpy_helper.to_array(stored)
        if values.dtype != np.float32 or values.size < _ROUNDED_FROM:
            continue
        with np.errstate(over="ignore"):
            short = values.astype(np.float16)
        if not np.array_equal(short.astype(np.float32), values):
            continue
        name = stored.name
        stored.CopyFrom(onnx.numpy_helper.from_array(short, f"{name}.half"))
        casts.append(
            onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
