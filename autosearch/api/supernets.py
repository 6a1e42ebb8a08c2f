"""Make a supernet from a teacher, and look at one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch import __version__
from autosearch.api.update import Progress, Update, quiet, reading
from autosearch.errors import WeightsError
from autosearch.files import sha256

if TYPE_CHECKING:
    from autosearch.backbones import Distillation, DistillationProgress, Teacher

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
    """
    from autosearch.backbones import (
        Distillation,
        DistillationSettings,
        pack_images,
        save_supernet,
    )

    settings = DistillationSettings(width, seed, batch, crop, steps, minutes)
    model, identity = _teacher(teacher, teacher_weights, seed)
    pack = pack_images(Path(images), reading(progress))
    run = Distillation(model, identity, pack, settings, Path(out), resume)
    skipped = ", ".join(f"{number} {reason}" for reason, number in pack.skipped.items())
    begun = f"{len(pack.crops)} crops of {pack.images} images, {len(pack.held_out)} held out"
    begun += f"; skipped: {skipped}" if skipped else ""
    start = f"continuing at step {run.step}"
    if not run.step:
        start = f"{run.copied_blocks} blocks start as the teacher's"
    for text in (begun, start):
        progress(Update("distilling", run.step, steps, text))
    if not run.run(told, stop):
        return None
    path = Path(out) / "supernet.safetensors"
    save_supernet(path, run.finished().released_state(), _card(run), half)
    return path


def verify_supernet(
    file: str | Path,
    images: str | Path | None = None,
    *,
    teacher: str = TEACHER,
    teacher_weights: str = "auto",
    crop: int = 224,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Check a supernet: tensors, subnets, and with images its agreement with the teacher.

    Args:
        file: Its weights.
        images: Folder of images to compare features on.
        teacher: A model of timm.
        teacher_weights: As in `distill_supernet`.
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
        crops, (model, _) = pack.crops[pack.held_out], _teacher(teacher, teacher_weights, 0)
    try:
        found = asdict(verify_state(state, model, crops, crop))
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    return {"file": str(file), "sha256": sha256(Path(file)), **found}


def _teacher(name: str, request: str, seed: int) -> tuple[Teacher, dict[str, str]]:
    from autosearch.backbones import Teacher, resolve

    weights = resolve(name, request, seed)
    identity = {"teacher": name, "teacher_sha256": weights.sha256}
    return Teacher(name, weights.state), identity


def _card(run: Distillation) -> dict[str, Any]:
    return {
        **run.identity,
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


def _rounded(values: list[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]
