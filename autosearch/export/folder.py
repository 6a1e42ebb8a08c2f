"""The folder of an exported model: what is in it, whether it is whole, what answers images.

``model.json`` describes the model and holds size and SHA-256 of every other file, and over all of
that its own ``sha256``. Files are hashed before anything is made of them. This finds damage, half
copies and careless edits; it does not find a forger, who can compute hashes as well.

Free of torch: prediction needs numpy and onnxruntime (or OpenVINO).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.data import (
    CanvasStage,
    Framing,
    Orientation,
    Size,
    TileGrid,
    numbered,
    size_text,
)
from autosearch.errors import ConfigError
from autosearch.export.looked_at import REGION, mask_in
from autosearch.export.members import whose
from autosearch.files import sha256
from autosearch.graphs import (
    Answer,
    Images,
    ModelError,
    Run,
    check_beside,
    onnx_run,
    openvino_run,
)
from autosearch.metrics import Threshold, image_scores, pixels_of_share

MANIFEST, ONNX, ONNX_DATA, OPENVINO, OPENVINO_DATA, TENSORS, CARD, PICTURE = (
    "model.json", "model.onnx", "model.data", "model.xml", "model.bin", "weights.safetensors",
    "README.md", "maps.jpg",
)  # fmt: skip

STATIC, INT8, INT8_DATA = "model.static.onnx", "model.int8.xml", "model.int8.bin"

FORMAT, VERSION = "autosearch-model", 1

PROVIDERS = ("cpu", "cuda", "openvino", "openvino-int8")
"""What can run a model: onnxruntime on a CPU or an NVIDIA GPU, or OpenVINO; ``openvino-int8`` runs
the graph in 8-bit integers, with thresholds of its own."""

_MAX_MANIFEST, _MAX_SIDE = 10_000_000, 16_384


@dataclass(frozen=True)
class ExportedModel:
    """A model ready to be run.

    Attributes:
        name: Study and trial, or ensemble, it comes from.
        sha256: Of its description, which covers all its files.
        framing: How images come onto their canvas, ``(H, W)`` pixels.
        image_threshold: For image scores.
        pixel_threshold: For values of an anomaly map.
        low: Value of a map at the dark end of the colour scale.
        high: Value at the bright end.
        run: The graph, of the canvas or of a tile.
        orientation: ``upright`` if the search turned images as their EXIF orientation says,
            ``stored`` if it did not.
        tiles: Where tiles of the canvas lie; None where the graph sees all of it.
        runs: The graphs of all tiles, where every position has its own; else empty.
        top_share: Share of the highest pixels whose mean is an image's score; None: the highest
            alone.
        baseline: Scores of normal validation images, rising; None where the model was exported
            before there were any.
        stage: What is done about the object on the canvas before the graph sees it; None where
            nothing is. Then there are no tiles.
    """

    name: str
    sha256: str
    framing: Framing
    image_threshold: Threshold
    pixel_threshold: Threshold
    low: float
    high: float
    run: Run
    orientation: Orientation = "upright"
    tiles: TileGrid | None = None
    runs: tuple[Run, ...] = ()
    top_share: float | None = None
    baseline: tuple[float, ...] | None = None
    stage: CanvasStage | None = None

    def answers(self, images: Sequence[Images], batch: int) -> Answer:
        """Maps and scores of images on their canvas, each ``(3, H, W)``.

        Args:
            images: Any number of them, all looked at together unless there are tiles.
            batch: Tiles per pass; those with a graph of their own are looked at one by one.
        """
        grid = self.tiles
        if grid is None:
            return self._of_canvases(images)
        size = 1 if self.runs else batch
        maps = np.empty((len(images), *grid.canvas), dtype=np.float32)
        for image, whole in zip(images, maps, strict=True):
            found = []
            for start in range(0, len(grid), size):
                run = self.runs[start] if self.runs else self.run
                some = range(start, min(start + size, len(grid)))
                found.append(run(grid.cut(image, some))[0])
            whole[:] = grid.blended(np.concatenate(found))
        return maps, image_scores(maps, self.top_share)

    def _of_canvases(self, images: Sequence[Images]) -> Answer:
        """The same without tiles, of images whose objects may have to be looked for first."""
        if self.stage is None:
            return self.run(np.stack(images))
        seen, places = zip(*map(self.stage.seen, images), strict=True)
        found, _ = self.run(np.stack(seen))
        pairs = zip(found, places, strict=True)
        maps = np.stack([self.stage.back(values, place) for values, place in pairs])
        return maps, image_scores(maps, self.top_share)


def load_model(folder: Path, provider: str = "cpu", threads: int | None = None) -> ExportedModel:
    """Open an exported model after checking that it is as it was written.

    Args:
        folder: As ``autosearch export`` wrote it.
        provider: One of `PROVIDERS`.
        threads: CPU threads; by default the runtime's own choice.

    Raises:
        ModelError: A file is missing or not as it was written, or the graph does not answer a
            black image as its description says.
        ConfigError: The provider is unknown or not installed.
    """
    if provider not in PROVIDERS:
        raise ConfigError("--provider", provider, f"one of {', '.join(PROVIDERS)}")
    manifest = read_manifest(folder)
    try:
        tiles, count = _tiles(manifest["input"])
        of_int8 = provider == "openvino-int8" and "int8" in manifest
        scoring = manifest["int8"]["scoring"] if of_int8 else {}
        model = _described({**manifest, **scoring}, tiles, _looked_at(folder, manifest))
    except (LookupError, TypeError, ValueError, OverflowError, ConfigError) as error:
        raise ModelError(f"{folder / MANIFEST}: lacks what prediction needs ({error})") from None
    size = model.framing.size if tiles is None else tiles.tile
    runs = []
    for number in range(count):
        run = _opened(folder, manifest, provider, threads, (number, count))
        runs.append(_checked(run, size, folder))
        runs[-1](np.zeros((1, 3, *size), np.float32))
    return replace(model, run=runs[0], runs=tuple(runs) if count > 1 else ())


def seal(description: Mapping[str, Any], files: Mapping[str, bytes | Path]) -> str:
    """The text of ``model.json``.

    Args:
        description: JSON values without NaN and infinity.
        files: Content or place of every other file of the folder, by name.
    """
    content = {"format": FORMAT, "version": VERSION, **description}
    content["files"] = {name: _entry(place) for name, place in files.items()}
    content["sha256"] = _digest(content)
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_manifest(folder: Path) -> dict[str, Any]:
    """What ``model.json`` says.

    Raises:
        ModelError: It is not there, no such file, of another version, or was changed.
    """
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_MANIFEST + 1)
        if len(text) > _MAX_MANIFEST:
            raise ModelError(f"{path}: is too large to be a model's description")
        content = json.loads(text)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); no export here") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: is not JSON; export the trial again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{path}: does not describe an exported model")
    if content.get("version") != VERSION:
        raise ModelError(
            f"{path}: is of version {content.get('version')}, this program reads {VERSION}"
        )
    stated = content.pop("sha256", None)
    if stated != _digest(content) or not isinstance(content.get("files"), dict):
        raise ModelError(f"{path}: was changed since the export; export the trial again")
    return {**content, "sha256": stated}


def read_file(folder: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    """A file of the model, checked against its description.

    Raises:
        ModelError: It is missing or was changed, or the model was exported without it.
    """
    path, entry = folder / name, manifest["files"].get(name)
    if entry is None:
        present = ", ".join(manifest["files"])
        raise ModelError(f"{folder}: was exported without {name}; it holds {present}")
    try:
        # A device or a pipe would be read for ever.
        content = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    if content is None:
        raise ModelError(f"{path}: cannot be read (no such file)")
    if _entry(content) != entry:
        raise ModelError(f"{path}: is not the file that was exported (its SHA-256 differs)")
    return content


def check_file(folder: Path, manifest: Mapping[str, Any], name: str) -> None:
    """Check a file of the model against its description, without holding it in memory.

    Raises:
        ModelError: It is missing or was changed.
    """
    path = folder / name
    try:
        same = path.is_file() and _entry(path) == manifest["files"][name]
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    if not same:
        why = "is not the file that was exported (its SHA-256 differs)"
        raise ModelError(f"{path}: {why if path.is_file() else 'cannot be read (no such file)'}")


def _described(
    manifest: Mapping[str, Any], tiles: TileGrid | None, looked_at: NDArray[np.bool_] | None
) -> ExportedModel:
    """All of a model but its graph."""
    study, limits, scale = (manifest[name] for name in ("study", "thresholds", "display"))
    framing = _framing(manifest["input"], tiles, looked_at)
    low, high = scale["low"], scale["high"]
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"maps from {low} to {high}")
    # Models that say nothing are older than the choice.
    orientation = manifest["input"].get("orientation", "upright")
    if orientation not in ("upright", "stored"):
        raise ValueError(f"images that are {orientation!r}")
    share = dict(manifest.get("image_score") or {}).get("top_share")
    if share is not None:
        share = float(share)
        pixels_of_share(share, 1)  # Refuses what is no share.
    return ExportedModel(
        name=f"{study['name']}, {whose(manifest)}",
        sha256=manifest["sha256"],
        framing=framing,
        image_threshold=Threshold.from_plain(limits["image"]),
        pixel_threshold=Threshold.from_plain(limits["pixel"]),
        low=float(low),
        high=float(high),
        run=_unopened,
        orientation=orientation,
        tiles=tiles,
        top_share=share,
        baseline=_baseline(manifest),
        stage=_stage(manifest["input"], tiles),
    )


def _stage(described: Mapping[str, Any], tiles: TileGrid | None) -> CanvasStage | None:
    """What is done on the canvas; nothing in models that are older than the choice."""
    if (plain := described.get("stage")) is None:
        return None
    if tiles is not None:
        raise ValueError(f"tiles of pictures with the stage {plain}")
    return CanvasStage.from_plain(plain)


def _baseline(manifest: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Scores that new ones can be compared with, if the model has them."""
    if (plain := manifest.get("baseline")) is None:
        return None
    scores = tuple(map(float, plain["scores"]))
    if not all(map(math.isfinite, scores)):
        raise ValueError("scores of normal images that are not finite")
    return scores


def _unopened(images: Images) -> Answer:
    raise ModelError("the graph is not open")


def _opened(
    folder: Path,
    manifest: Mapping[str, Any],
    provider: str,
    threads: int | None,
    place: tuple[int, int],
) -> Run:
    """The graph of a position, ``(number, count)``, that the folder holds for a provider."""
    kinds = (ONNX, ONNX_DATA, OPENVINO, OPENVINO_DATA)
    graph, beside, network, data = (numbered(name, *place) for name in kinds)
    names = [graph]
    if provider == "openvino" and network in manifest["files"]:
        names = [network, data]
    if provider == "openvino-int8":
        names = [numbered(name, *place) for name in (INT8, INT8_DATA)]
    first: bytes | Path
    first, *others = [read_file(folder, manifest, name) for name in names]
    try:
        if names == [graph] and beside in manifest["files"]:
            check_beside(first, beside)
            check_file(folder, manifest, beside)
            first = folder / graph
        if provider not in ("openvino", "openvino-int8"):
            return onnx_run(first, provider, threads)
        return openvino_run(first, others[0] if others else None, threads)
    except ModelError as error:
        where = "" if str(error).startswith(str(folder)) else f"{folder / names[0]}: "
        raise ModelError(f"{where}{error}") from None


def _tiles(described: Mapping[str, Any]) -> tuple[TileGrid | None, int]:
    """The tiles of the canvas, if there are any, and the number of graphs."""
    plain = described.get("tiling")
    if plain is None:
        return None, 1
    grid, banks = TileGrid.from_plain(plain), plain["banks"]
    if banks not in ("shared", "position"):
        raise ValueError(f"banks that are {banks!r}")
    return grid, len(grid) if banks == "position" else 1


def _looked_at(folder: Path, manifest: Mapping[str, Any]) -> NDArray[np.bool_] | None:
    """The mask of what is looked at, if the model has one."""
    if REGION not in manifest["files"]:
        return None
    return mask_in(read_file(folder, manifest, REGION))


def _framing(
    described: Mapping[str, Any], tiles: TileGrid | None, looked_at: NDArray[np.bool_] | None
) -> Framing:
    """How images come onto the canvas; models older than the choice squeeze them to a square."""
    height, width = map(int, described["shape"][-2:])
    plain = described.get("framing") or {"size": [height, width], "fit": "stretch", "region": None}
    framing = Framing.from_plain(plain, looked_at)
    seen, canvas = (framing.size,) * 2 if tiles is None else (tiles.tile, tiles.canvas)
    if (seen, canvas) != ((height, width), framing.size) or max(canvas) > _MAX_SIDE:
        raise ValueError(f"{height} x {width} pixels, framed as {framing.size}")
    return framing


def _checked(run: Run, size: Size, folder: Path) -> Run:
    """Refuse a graph that fails, or answers with something else than maps and scores.

    NaN above all: it reaches no threshold, so that everything would be called normal.
    """

    def checked(images: Images) -> Answer:
        try:
            maps, scores = run(images)
        except Exception as error:  # those of the runtimes share no base class
            raise ModelError(f"{folder}: its graph cannot be run: {_line(error)}") from None
        shapes = ((len(images), *size), (len(images),))
        if (np.shape(maps), np.shape(scores)) != shapes or not np.isfinite(maps).all():
            raise ModelError(f"{folder}: its graph gives no finite maps of {size_text(size)}")
        return maps, scores

    return checked


def _digest(content: Mapping[str, Any]) -> str:
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()


def _entry(place: bytes | Path) -> dict[str, Any]:
    if isinstance(place, Path):
        return {"bytes": place.stat().st_size, "sha256": sha256(place)}
    return {"bytes": len(place), "sha256": hashlib.sha256(place).hexdigest()}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
