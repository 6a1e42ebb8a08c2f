"""timm's weights on the Hugging Face hub: fetched once, pinned to revision and hash from then on.

Nobody publishes their hashes beside the code, so those of the first use are recorded.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub

from autosearch.errors import WeightsError
from autosearch.files import cache_dir, sha256, write_atomic

CONNECT_SECONDS = 4.0
"""How long a server may take to answer before it counts as unreachable. There are no retries."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REFUSED = (401, 403)
"""What the hub answers to those who have not accepted a model's terms, or are not logged in."""


class Unreachable(WeightsError):
    """The server does not answer, so another source may be tried."""


@dataclass(frozen=True)
class HubFile:
    """A file of the hub.

    Attributes:
        path: In the hub's cache.
        sha256: Of its bytes.
        repository: Where it is from.
        revision: Commit that it is of; None where that is not known.
    """

    path: Path
    sha256: str
    repository: str
    revision: str | None


def hub_file(model: str) -> HubFile:
    """Find timm's own weights of a model, in the hub's cache if they are there.

    Revision and hash of the first use are kept in the cache; a later file must have that hash.

    Raises:
        Unreachable: They are not in the cache, and the hub does not answer.
        WeightsError: There are none, the hub refuses them, or they are other ones than recorded.
    """
    repository, file = _address(model)
    if file is None or not file.endswith(".safetensors"):
        raise WeightsError(f"{model}: timm has no tensors-only file of it. {remedy(model)}")
    record = _record(repository, file)
    known = _recorded(record)
    path = _found(model, repository, file, known)
    digest, revision = sha256(path), path.parent.name
    revision_known = revision if _COMMIT.fullmatch(revision) else None
    if not known:
        plain = {"sha256": digest, "revision": revision_known}
        write_atomic(record, json.dumps(plain, indent=2) + "\n")
    elif known["sha256"] != digest:
        raise WeightsError(
            f"{path}: its SHA-256 is {digest}, but {known['sha256']} was recorded at the first "
            f"use ({record}); delete that record to take the new file from now on"
        )
    return HubFile(path, digest, repository, revision_known)


def remedy(model: str) -> str:
    """What to do where there is no network, in one line."""
    repository, file = _address(model)
    other = "set it to random, which runs everything but makes accuracy meaningless"
    if file is None or not file.endswith(".safetensors"):
        return (
            "Without network: set backbone.weights to the path of a file of tensors fetched "
            f"elsewhere; or {other}"
        )
    revision = (_recorded(_record(repository, file)) or {}).get("revision") or "main"
    return (
        f"Without network: fetch {file} of {repository}, revision {revision}, elsewhere; put its "
        f"folder of the hub's cache into {huggingface_hub.constants.HF_HUB_CACHE}, or the file as "
        f"{model}.safetensors into any folder and set backbone.weights to that folder, or to the "
        f"path of a file of tensors; or {other}"
    )


def _address(model: str) -> tuple[str, str | None]:
    """Repository and file; no file where timm names no repository."""
    import timm  # Takes as long as torch itself, and supernets need none of it.

    config = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        return "", None
    return str(config.hf_hub_id), str(config.hf_hub_filename or "model.safetensors")


def _record(repository: str, file: str) -> Path:
    return cache_dir("weights", "hub", repository.replace("/", "--"), f"{file}.json")


def _recorded(record: Path) -> dict[str, str | None]:
    """Hash and revision of the first use; nothing before it.

    Raises:
        WeightsError: The record is damaged.
    """
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{record}: cannot be read ({line(error)}); delete it") from error
    if not isinstance(found, dict) or not isinstance(found.get("sha256"), str):
        raise WeightsError(f"{record}: holds no SHA-256; delete it")
    return found


def _found(model: str, repository: str, file: str, known: dict[str, str | None]) -> Path:
    """Path in the hub's cache, into which the file is fetched unless it is there."""
    pinned: dict[str, Any] = {"revision": known["revision"]} if known.get("revision") else {}
    try:
        for path in _cached(repository, file, pinned):
            if not pinned or sha256(path) == known["sha256"]:
                return path
        _ask_hub()
        return Path(huggingface_hub.hf_hub_download(repository, file, **pinned))
    except (OSError, http.client.HTTPException) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in _REFUSED:
            raise WeightsError(
                f"{model}: the hub refuses {repository} ({status}): accept its terms at "
                f"{huggingface_hub.constants.ENDPOINT}/{repository}, then log in by "
                "'hf auth login' or set HF_TOKEN to a token that may read it"
            ) from error
        raise Unreachable(
            f"{model}: {repository} is not cached and cannot be read ({line(error)}). "
            f"{remedy(model)}"
        ) from error


def _cached(repository: str, file: str, pinned: dict[str, Any]) -> Iterator[Path]:
    """Files of the cache, that of the recorded revision first: the newest may be the same."""
    tried: tuple[dict[str, Any], ...] = (pinned, {}) if pinned else ({},)
    for revision in tried:
        try:
            path = huggingface_hub.hf_hub_download(
                repository, file, local_files_only=True, **revision
            )
        except FileNotFoundError:
            continue
        yield Path(path)


def _ask_hub() -> None:
    """Fail fast where the hub's own client would retry for minutes."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    request = urllib.request.Request(huggingface_hub.constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=CONNECT_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answered


def line(error: BaseException) -> str:
    """An error's type and text on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
