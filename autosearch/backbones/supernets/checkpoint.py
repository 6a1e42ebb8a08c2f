"""What a distillation keeps on disk: its checkpoint, and the supernet it ends with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from autosearch.errors import StudyError
from autosearch.files import sha256, write_atomic

_OPTIMISER = "optimiser."
_STATE = "state"


def save_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    state: Mapping[str, Any],
) -> None:
    """Write all that a run needs to go on into one file, whole or not at all.

    Args:
        path: A safetensors file; ``state`` stands in its header as JSON.
        tensors: What is trained, and statistics.
        parameters: Names of what the optimiser was given.
        optimiser: Its moments are kept by name.
        state: Plain values.
    """
    kept = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    for name, parameter in parameters.items():
        for kind, value in optimiser.state.get(parameter, {}).items():
            kept[f"{_OPTIMISER}{kind}.{name}"] = value.detach().contiguous()
    write_atomic(path, save(kept, {_STATE: json.dumps(state)}))


def load_checkpoint(
    path: Path,
    identity: Mapping[str, str],
    tensors: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> dict[str, Any]:
    """Read a checkpoint into tensors and an optimiser that are there already.

    Args:
        path: The file.
        identity: What must stand in its state under the same name.
        tensors: Overwritten.
        parameters: Names of what the optimiser was given.
        optimiser: Gets its moments back.

    Returns:
        The plain values.

    Raises:
        StudyError: If the file is damaged or stems from a run with other inputs.
    """
    try:
        with safe_open(path, "pt") as file:
            state: dict[str, Any] = json.loads((file.metadata() or {})[_STATE])
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        made = dict(state["identity"])
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        raise StudyError(f"{path}: not a checkpoint: {error}") from error
    for key, value in identity.items():
        if made.get(key) != value:
            raise StudyError(f"{path}: made with {key} {made.get(key)!r}, not {value!r}")
    moments = {key: _moment(key) for key in kept if key.startswith(_OPTIMISER)}
    wrong = [
        name for name, t in tensors.items() if name not in kept or kept[name].shape != t.shape
    ]
    for key, (_, name) in moments.items():
        # Counts of steps are scalars, whatever the parameter's shape.
        if name not in parameters or kept[key].shape not in ((), parameters[name].shape):
            wrong.append(key)
    if wrong:
        raise StudyError(f"{path}: not a checkpoint: {wrong[0]} is missing or of another shape")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(kept[name])
    for key, (kind, name) in moments.items():
        optimiser.state[parameters[name]][kind] = kept[key].clone()
    return state


def _moment(key: str) -> tuple[str, str]:
    """Kind of a moment, and the parameter that it belongs to."""
    kind, _, name = key.removeprefix(_OPTIMISER).partition(".")
    return kind, name


def save_supernet(
    path: Path, state: Mapping[str, Tensor], card: Mapping[str, Any], half: bool
) -> dict[str, Any]:
    """Write a supernet and, beside it, the card that says how it was made.

    Args:
        path: A safetensors file; the card gets the suffix ``.json``.
        state: Tensors under the released names.
        card: Everything but the hash.
        half: Store kernels as float16. Vectors, among them statistics, stay float32.

    Returns:
        The card with the file's SHA-256.
    """
    kept = {
        name: (tensor.half() if half and tensor.dim() > 1 else tensor).contiguous()
        for name, tensor in state.items()
    }
    write_atomic(path, save(kept, {"format": "pt"}))
    complete = {**card, "sha256": sha256(path), "bytes": path.stat().st_size, "half": half}
    write_atomic(path.with_suffix(".json"), json.dumps(complete, indent=2) + "\n")
    return complete
