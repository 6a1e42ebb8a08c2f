"""The only place that finds pretrained weights: a package, the cache, a download or a path.

Whatever the source, a hash is known and only tensors are loaded: a file that would run code when
opened is refused.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import urllib.request
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import safetensors.torch
import torch
from torch import Tensor

from autosearch.backbones.foundation_weights import Licence, check_licence, licence_of, title_of
from autosearch.backbones.hub import CONNECT_SECONDS, Unreachable, hub_file, line, remedy
from autosearch.backbones.packaged import PACKAGED
from autosearch.backbones.supernets import ofa_layout
from autosearch.backbones.timm_backbone import create, create_without_weights
from autosearch.backbones.weights_folder import file_in, missing_in
from autosearch.errors import WeightsError
from autosearch.files import cache_dir, publish, sha256, user_path, write_atomic

OFA_URL = "https://raw.githubusercontent.com/han-cai/files/master/ofa/ofa_nets/"
"""Where the authors of once-for-all publish their supernets, one file per model name."""

_PRETRAINED = Path(__file__).parent / "supernets" / "pretrained"
BUNDLED = {name: _PRETRAINED / f"{name}.safetensors" for name in ofa_layout.MODEL_NAMES}
"""Weights that ship with this package; beside each file a card says how it was made."""

Source = Literal["official", "bundled", "random", "path", "package", "timm"]


@dataclass(frozen=True)
class Weights:
    """Tensors of one model and where they come from.

    Attributes:
        name: Model name.
        source: Kind of place they were found in.
        sha256: Of the file, or of the tensors for random weights.
        state: Tensors by the model's own names.
        note: What a reader of results should know about them.
        licence: What they come under, as far as it is known and not this package's own.
        accepted: What ``backbone.accept_licence`` said, where that licence asks for it.
    """

    name: str
    source: Source
    sha256: str
    state: dict[str, Tensor]
    note: str
    licence: Licence | None = None
    accepted: str | None = None

    def provenance(self) -> dict[str, str]:
        """Everything but the tensors, as it stands in results; what is not known is left out."""
        kept = ("name", "source", "sha256", "note")
        told = {name: str(getattr(self, name)) for name in kept}
        if self.licence is not None:
            told["licence"] = self.licence.title
            told |= {} if self.licence.url is None else {"licence_url": self.licence.url}
            told |= {} if self.accepted is None else {"licence_accepted": self.accepted}
        return told


def resolve(model: str, request: str, seed: int, accepted: str | None = None) -> Weights:
    """Find the weights of a model.

    Args:
        model: ``ofa_mbv3_d234_e346_k357_w1.0``, the same with ``w1.2``, or a timm model name.
        request: ``auto`` (the best source that answers, never random), ``official`` (the authors'
            or timm's file, cached or downloaded), ``bundled`` (what needs no network), ``random``,
            the path of a file of tensors, or of a folder that holds one a model. Models that the
            folder has no file of take what needs no network, if there is any.
        seed: Seed of random weights.
        accepted: Key of the licence that the user has accepted, as ``backbone.accept_licence``.

    Raises:
        ConfigError: If there is no such model.
        WeightsError: If nothing is found, a hash differs, tensors do not fit the model, or a
            licence must be accepted first.
    """
    if model not in ofa_layout.MODEL_NAMES:
        create_without_weights(model)
    if request == "random":
        return _random(model, seed)
    check_licence(model, accepted)
    found, licence = _of(model, request), licence_of(model)
    if licence is None or (found.source != "timm" and licence.key is None):
        return found  # A file by path may be of anybody's training.
    return replace(found, licence=licence, accepted=licence.key and accepted)


def _of(model: str, request: str) -> Weights:
    if request == "bundled":
        return _bundled(model)
    if request == "official":
        return _official(model)
    if request != "auto":
        return _from_path(model, request)
    if model in PACKAGED:
        return _bundled(model)
    try:
        return _official(model)
    except Unreachable:
        if model in BUNDLED:
            return _bundled(model)
        raise


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and values of tensors, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _official(model: str) -> Weights:
    if model in ofa_layout.MODEL_NAMES:
        path, digest = _download(model)
        note = (
            "released by the authors of once-for-all, who publish no hash: "
            f"this one was recorded at the first download ({path.name}.sha256)"
        )
        return Weights(model, "official", digest, _fit(model, read_tensors(path), path), note)
    import timm  # Takes as long as torch itself, and supernets need none of it.

    found = hub_file(model)
    path = found.path
    overlay = {"file": str(path)}
    try:
        network = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be loaded into {model}: {line(error)}") from error
    title, revision = title_of(model), found.revision
    note = f"timm's {model}" + (f", {title}" if title else "")
    note += f", revision {revision} of {found.repository}" if revision else ""
    return Weights(model, "timm", found.sha256, network.state_dict(), note)


def _bundled(model: str) -> Weights:
    if model in PACKAGED:
        package = PACKAGED[model]
        path = package.file()
        state = _fit(model, _in_order_of(model, read_tensors(path), path), path)
        note = f"{package.title} on ImageNet, from the package {package.project}"
        return Weights(model, "package", package.sha256, state, note)
    if model not in BUNDLED:
        raise WeightsError(f"{model}: no weights of this model are bundled. {_remedy(model)}")
    path = BUNDLED[model]
    card, digest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8")), sha256(path)
    if digest != card["sha256"]:
        raise WeightsError(
            f"{path}: its SHA-256 is {digest}, but its card says {card['sha256']}; "
            "install the package anew"
        )
    note = (
        f"distilled from {card['teacher']} on {card['images']} freely licensed images, "
        f"{card['steps']} steps; no released checkpoint"
    )
    return Weights(model, "bundled", digest, _fit(model, read_tensors(path), path), note)


def _from_path(model: str, request: str) -> Weights:
    path = user_path(request, "backbone.weights")
    if path.is_dir():
        if (inside := file_in(path, model)) is None:
            if model in PACKAGED or model in BUNDLED:
                return _bundled(model)
            raise missing_in(path, model)
        path = inside
    if not path.is_file():
        raise WeightsError(
            f"weights {request!r}: no such file; expected auto, official, bundled, random or the "
            "path of a file of tensors or of a folder of such files"
        )
    state = _fit(model, read_tensors(path), path)
    return Weights(model, "path", sha256(path), state, f"read from {path.name}")


def _random(model: str, seed: int) -> Weights:
    if model in ofa_layout.MODEL_NAMES:
        state = ofa_layout.random_state(ofa_layout.MODEL_NAMES[model], seed)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            state = create(model).state_dict()
    note = f"RANDOM WEIGHTS (seed {seed}): ACCURACY MEANS NOTHING, only costs and shapes hold"
    return Weights(model, "random", tensors_sha256(state), state, note)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of named tensors: safetensors by its suffix, else what `torch.save` writes.

    A dictionary whose entry ``state_dict`` holds the tensors is accepted too.

    Raises:
        WeightsError: If the file holds anything but dense tensors of finite real numbers. Code in
            it is not run.
    """
    try:
        # What torch has to say of a file that it reads would stand before our own line.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = _tensors_only(path)
    except Exception as error:  # a damaged or hostile file may fail in any way
        raise WeightsError(f"{path}: not a file of tensors only: {line(error)}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path}: expected named tensors, found {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path}: {name!r} is not a tensor but {type(value).__name__}")
        if (odd := _oddity(value)) is not None:
            raise WeightsError(f"{path}: {name!r} {odd}")
    return dict(content)


def _tensors_only(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _oddity(tensor: Tensor) -> str | None:
    """Why every trial with this tensor would fail, or None."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return "is not a dense tensor of plain numbers"
    if tensor.is_complex():
        return "holds complex numbers"
    if tensor.is_floating_point() and not tensor.float().isfinite().all():
        return "holds NaN or infinite values"
    return None


def _fit(model: str, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Check names and shapes against the model, so that an error names the file."""
    try:
        if model in ofa_layout.MODEL_NAMES:
            return ofa_layout.plain_state(ofa_layout.MODEL_NAMES[model], state)
        network = create_without_weights(model)
        kinds = {name: value.is_floating_point() for name, value in network.state_dict().items()}
        network.load_state_dict(state, assign=True)
        for name, value in state.items():
            if value.is_floating_point() != kinds[name]:
                raise WeightsError(f"{name} holds {value.dtype}")
    except (WeightsError, RuntimeError) as error:
        raise WeightsError(f"{path}: does not fit {model}: {line(error)}") from error
    return state


def _in_order_of(model: str, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Rename tensors to the model's names, by position; shapes are checked afterwards."""
    names = list(create_without_weights(model).state_dict())
    if len(names) != len(state):
        raise WeightsError(f"{path}: {len(state)} tensors, but {model} has {len(names)}")
    return dict(zip(names, state.values(), strict=True))


def _download(model: str) -> tuple[Path, str]:
    """Path and hash of an official supernet, downloaded unless the cache has it."""
    path = cache_dir("weights") / model
    if not path.exists():
        publish(path, lambda temporary: _fetch(model, temporary))
    return path, _check_hash(path, path)


def _fetch(model: str, target: Path) -> None:
    """Download to ``target``, and keep it only if it holds the tensors of the model."""
    url = OFA_URL + model
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response:
            if urlsplit(response.url).scheme != urlsplit(url).scheme:
                raise WeightsError(f"{url}: redirected to {response.url}; not followed")
            with target.open("wb") as file:
                shutil.copyfileobj(response, file)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(
            f"{model}: not in the cache, and {url} cannot be read ({line(error)}). "
            f"{_remedy(model)}"
        ) from error
    try:
        _fit(model, read_tensors(target), target)
    except WeightsError as error:
        raise WeightsError(f"{url} answered with something else: {error}") from error
    _check_hash(target, cache_dir("weights") / model)


def _check_hash(path: Path, name: Path) -> str:
    """Compare a file with the hash recorded under ``name``, or record it if there is none."""
    recorded, digest = name.with_name(name.name + ".sha256"), sha256(path)
    if not recorded.exists():
        write_atomic(recorded, digest + "\n")
    elif recorded.read_text().strip() != digest:
        raise WeightsError(
            f"{name}: its SHA-256 is {digest}, but {recorded.name} recorded "
            f"{recorded.read_text().strip()}; delete both files to download anew"
        )
    return digest


def _remedy(model: str) -> str:
    if model not in ofa_layout.MODEL_NAMES:
        return remedy(model)
    return (
        "Without network: set weights to the path of a file fetched elsewhere (or put it into "
        f"{cache_dir('weights')}), or to random, which runs everything but makes accuracy "
        "meaningless"
    )
