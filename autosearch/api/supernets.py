"""Make a supernet from a teacher, and look at one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch import __version__
from autosearch.api.update import Progress, Update, quiet, reading
from autosearch.errors import ConfigError, WeightsError
from autosearch.files import sha256

if TYPE_CHECKING:
    from autosearch.backbones import Distillation, DistillationProgress, Teacher, Weights

TEACHER = "tf_efficientnet_lite0"
"""A timm model whose weights come with a package."""


def distill_supernet(
    images: str | Path,
    out: str | Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    teacher: str = TEACHER,
    teacher_weights: str = "auto",
    blocks: Sequence[float] | None = None,
    accept_licence: str | None = None,
    width: float = 1.0,
    batch: int = 48,
    crop: int = 96,
    seed: int = 0,
    resume: bool = False,
    half: bool = False,
    progress: Progress = quiet,
    told: Callable[[DistillationProgress], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Train a supernet that answers with a teacher's features, at every size.

    Args:
        images: Folder of unlabelled images; .zip and .pk3 files are read in place.
        out: Folder of the checkpoint and the result.
        minutes: Time in all, earlier pieces too; or give ``steps``.
        steps: Steps in all.
        teacher: A model of timm.
        teacher_weights: ``auto``, ``official``, ``bundled``, ``random`` or a file.
        blocks: Of a plain transformer, which of its blocks are learnt, up to four shares of the
            depth; None for a quarter, a half, three quarters and the whole.
        accept_licence: Key of the licence of the teacher's weights, where it must be accepted.
        width: 1.0 or 1.2.
        batch: Images per step.
        crop: Side of training images in pixels, a multiple of 32.
        seed: Of everything drawn.
        resume: Go on from the checkpoint in the folder.
        half: Store the result in half precision.
        progress: Told of images read, and of how the training begins.
        told: Told of steps, and at checkpoints of held-out losses.
        stop: Asked after each step whether to end before the budget is met.

    Returns:
        ``supernet.safetensors``, for ``backbone.weights`` of a study, with ``supernet.json``
        beside it saying how it was made. None if it was stopped; ``resume`` goes on.

    Raises:
        ConfigError: A setting is not allowed.
        StudyError: A checkpoint is in the way, missing, or of other inputs.
        WeightsError: The teacher's weights are not found, or their licence is not accepted.
    """
    from autosearch.backbones import (
        Distillation,
        DistillationSettings,
        pack_images,
        save_supernet,
    )

    settings = DistillationSettings(width, seed, batch, crop, steps, minutes)
    model, weights = _teacher(teacher, teacher_weights, seed, blocks, accept_licence)
    pack = pack_images(Path(images), reading(progress))
    run = Distillation(model, _identity(model, weights), pack, settings, Path(out), resume)
    skipped = ", ".join(f"{number} {reason}" for reason, number in pack.skipped.items())
    begun = f"{len(pack.crops)} crops of {pack.images} images, {len(pack.held_out)} held out"
    begun += f"; skipped: {skipped}" if skipped else ""
    for text in (begun, *_told_of(model, crop), _start(run)):
        progress(Update("distilling", run.step, steps, text))
    if not run.run(told, stop):
        return None
    path = Path(out) / "supernet.safetensors"
    save_supernet(path, run.finished().released_state(), _card(run, weights), half)
    return path


def verify_supernet(
    file: str | Path,
    images: str | Path | None = None,
    *,
    teacher: str = TEACHER,
    teacher_weights: str = "auto",
    blocks: Sequence[float] | None = None,
    accept_licence: str | None = None,
    crop: int = 224,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Check a supernet: tensors, subnets, and with images its agreement with the teacher.

    Args:
        file: Its weights.
        images: Folder of images to compare features on.
        teacher: A model of timm.
        teacher_weights: As in `distill_supernet`.
        blocks: As in `distill_supernet`.
        accept_licence: As in `distill_supernet`.
        crop: Side of these images in pixels.
        progress: Told of images read.

    Returns:
        ``file``, ``sha256``, and what `autosearch.backbones.supernets.verify.Verification` holds.

    Raises:
        WeightsError: The file cannot be read, or holds no supernet.
    """
    from autosearch.backbones import pack_images, read_tensors, verify_state

    state = read_tensors(Path(file))
    crops, model = None, None
    if images is not None:
        pack = pack_images(Path(images), reading(progress))
        crops = pack.crops[pack.held_out]
        model, _ = _teacher(teacher, teacher_weights, 0, blocks, accept_licence)
    try:
        found = asdict(verify_state(state, model, crops, crop))
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    return {"file": str(file), "sha256": sha256(Path(file)), **found}


def _teacher(
    name: str, request: str, seed: int, blocks: Sequence[float] | None, accepted: str | None
) -> tuple[Teacher, Weights]:
    from autosearch.backbones import Teacher, resolve

    try:
        weights = resolve(name, request, seed, accepted)
        return Teacher(name, weights.state, blocks), weights
    except ConfigError as error:
        if error.key != "backbone":
            raise
        raise ConfigError("teacher", name, error.allowed) from error


def _identity(model: Teacher, weights: Weights) -> dict[str, str]:
    """What a run goes on with: without blocks, where the teacher is no plain transformer."""
    identity = {"teacher": model.name, "teacher_sha256": weights.sha256}
    return identity if model.blocks is None else {**identity, "teacher_blocks": model.blocks}


def _told_of(model: Teacher, crop: int) -> list[str]:
    """What there is to say of a transformer as teacher."""
    if model.blocks is None:
        return []
    side = model.input_side(crop)
    rounded = "" if side == crop else f"; it sees {crop} pixels as {side}, a multiple of its patch"
    return [f"learnt are the teacher's blocks {model.blocks}{rounded}"]


def _start(run: Distillation) -> str:
    if run.step:
        return f"continuing at step {run.step}"
    if run.teacher.blocks is not None:
        return "no block starts as the teacher's: a transformer has none like the supernet's"
    return f"{run.copied_blocks} blocks start as the teacher's"


def _card(run: Distillation, weights: Weights) -> dict[str, Any]:
    return {
        **run.identity,
        **_terms(weights),
        "autosearch": __version__,
        "images": run.pack.images,
        "crops": len(run.pack.crops),
        "sources": run.pack.sources,
        "skipped": run.pack.skipped,
        "steps": run.step,
        "minutes": round(run.elapsed / 60, 1),
        "pieces": run.pieces,
        "held_out": {kind: _rounded(v) for kind, v in run.history[-1]["held_out"].items()},
    }


def _terms(weights: Weights) -> dict[str, str]:
    """The licence of the teacher's weights, under which what is learnt from them may come too."""
    told = weights.provenance()
    if "licence" not in told:
        random = weights.source == "random"
        return {"teacher_licence": "none: random" if random else f"not known: {weights.note}"}
    return {f"teacher_{key}": value for key, value in told.items() if key.startswith("licence")}


def _rounded(values: list[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]
