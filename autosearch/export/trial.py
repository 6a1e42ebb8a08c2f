"""From a trial to a folder that can be carried away: fit on all normal images, freeze, verify.

Two detectors are fitted. The first as in the search, on the train split: on what it says of the
validation split thresholds are chosen, since none of those images is in its memory. The second on
all normal images that are not test images: it is the one that is exported. The scales of an
ensemble's members are those of the first, for the same reason.
"""

from __future__ import annotations

import importlib.metadata
import math
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch import __version__
from autosearch.contracts import Detector, ensemble_name, scales_of, stage_of
from autosearch.data import (
    RESIZE_RULE,
    ImageSet,
    contact_sheet,
    read_interest,
)
from autosearch.errors import StudyError
from autosearch.export.card import model_card, score_text
from autosearch.export.chosen import Chosen, records_of
from autosearch.export.examples import examples
from autosearch.export.folder import CARD, MANIFEST, PICTURE, read_manifest, seal
from autosearch.export.frozen import LATENCY_THREADS, TOLERANCE, Frozen, check_formats, freeze
from autosearch.export.int8 import Quantiser
from autosearch.export.looked_at import REGION, mask_file
from autosearch.export.static import check_batch, freeze_static
from autosearch.files import write_atomic
from autosearch.graphs import INPUT, MAPS, MAX_BYTES, OLDEST_RUNTIME, OPSET, SCORES, check_opset
from autosearch.metrics import (
    Criterion,
    Ranking,
    Rule,
    auroc,
    average_precision,
    choose_threshold,
    image_scores,
)
from autosearch.storage import StudyFolder
from autosearch.study import (
    Inputs,
    all_normal,
    maps_of,
    reopen,
    thresholds_of,
    truth_of,
)

_PACKAGES = ("torch", "timm", "numpy", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf")

Maps = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True)
class ExportOptions:
    """What to export and how.

    Attributes:
        trial: Number of a scored trial; None for an ensemble.
        formats: Among `autosearch.export.frozen.FORMATS`.
        coreset: Share of the patches that the memory bank keeps, chosen by k-centre, instead of
            the trial's own choice.
        half: Store large tensors in half precision.
        rule: How thresholds are chosen; see `autosearch.metrics.choose_threshold`.
        max_fpr: For the name ``fpr``.
        opset: Of the ONNX graph, among `autosearch.graphs.OPSETS`.
        ensemble: Numbers of scored trials that become one detector: the mean of their
            standardised maps; see `autosearch.contracts.EnsembleDetector`.
        limit: Bytes that one ONNX file may hold; large tensors of more lie in a file beside it.
        batch: Images of a pass, or tiles, of ``onnx-static``; None: one.
    """

    trial: int | None
    formats: tuple[str, ...] = ("onnx", "torch")
    coreset: float | None = None
    half: bool = False
    rule: Rule | Criterion = "f1"
    max_fpr: float | None = None
    opset: int = OPSET
    ensemble: tuple[int, ...] = ()
    limit: int = MAX_BYTES
    batch: int | None = None


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        path: The folder.
        manifest: What its ``model.json`` says.
    """

    path: Path
    manifest: Mapping[str, Any]


def export_trial(
    folder: StudyFolder,
    options: ExportOptions,
    out: Path | None = None,
    force: bool = False,
    say: Say = lambda text: None,
    reopened: Callable[[], Inputs] | None = None,
) -> Exported:
    """Export a trial of a study, or several as one detector.

    Args:
        folder: The study's folder.
        options: What to export.
        out: Where to; by default ``exports/trial-N`` of the study, or ``exports/ensemble-3+7+12``.
        force: Replace an export that is there already.
        say: Told what is being done.
        reopened: Loads what the study was made from, if that takes more than its folder.

    Raises:
        ConfigError: An option does not fit the study, or a package is missing.
        StudyError: There is no such trial, or it has no values; something is in the way.
        ModelError: Maps of a runtime differ too much from torch's.
    """
    records = records_of(folder, options.trial, options.ensemble)
    name = ensemble_name(record.number for record in records)
    kind = "ensemble" if options.ensemble else "trial"
    target = out or folder.path / "exports" / f"{kind}-{name}"
    _check_target(target, force)
    check_formats(options.formats)
    check_opset(options.opset)
    check_batch(options.batch, options.formats)
    # Refused now rather than after everything was fitted.
    choose_threshold([1.0, 2.0], np.array([False, True]), options.rule, options.max_fpr)
    inputs = reopened() if reopened else reopen(folder)
    chosen = Chosen.of(inputs, records, options.coreset)
    data = inputs.data
    say(f"fitting on {len(data.train)} train images, for thresholds")
    detector, everything = chosen.fitted(data.train), data.train
    val_maps, scales = maps_of(detector, data.val), scales_of(detector)
    threads = inputs.spec.resources.latency_threads or LATENCY_THREADS
    share, prevalence = detector.top_share, inputs.spec.dataset.prevalence
    figures = validation_figures(data.val, val_maps, prevalence, share)
    quantiser = Quantiser(
        data.train, inputs.spec.study.seed, options.half, options.opset, threads, say
    )
    in_8_bits = None
    if "openvino-int8" in options.formats:
        with chosen.in_one_file("openvino-int8", options.half):
            in_8_bits = quantiser.measure(
                detector,
                data.val,
                lambda maps: validation_figures(data.val, maps, prevalence, share),
                figures,
            )
    # Training that selects on validation must not also learn from it.
    if not inputs.runner.supervised:
        everything = all_normal(data)
        say(f"fitting on all {len(everything)} normal images")
        detector = chosen.fitted(everything, scales)
    frozen = freeze(
        detector,
        data.val,
        options.formats,
        options.half,
        say,
        options.opset,
        threads,
        options.limit,
    )
    others: dict[str, Any] = {}
    if "onnx-static" in options.formats:
        say("writing and checking the ONNX graph of fixed shapes")
        with chosen.in_one_file("onnx-static", options.half):
            files, others["static"] = freeze_static(
                detector, data.val, options.batch or 1, options.half, options.opset
            )
        frozen.files |= files
    if in_8_bits is not None:
        with chosen.in_one_file("openvino-int8", options.half):
            files, about = quantiser.write(detector, data.val, in_8_bits)
        frozen.files |= files
        others["int8"] = {**about, "scoring": _scoring(data.val, in_8_bits.maps, share, options)}
    frozen.files[PICTURE] = contact_sheet(data.val, val_maps)
    if (interest := read_interest(inputs.spec.dataset)) is not None:
        frozen.files[REGION] = mask_file(interest.mask)
    description = {
        **_origin(inputs, chosen, detector),
        **chosen.described(folder, scales),
        **_scoring(data.val, val_maps, detector.top_share, options),
        "fit": {
            "train": len(data.whole or data.train),
            "searched": len(data.train),
            "validation_normal": len(everything) - len(data.whole or data.train),
            "images": len(everything),
            "anomalous": int(everything.labels.sum()),
        },
        "validation": {
            "search": _finite(chosen.recorded()),
            "exported_configuration": figures,
        },
        "cost": asdict(detector.cost()),
        "figures": detector.figures(),
        **_runtimes(frozen, options),
        **others,
    }
    if "onnx" in options.formats:
        frozen.files |= examples(description)
    return _publish(target, description, frozen.files, force)


def validation_figures(
    val: ImageSet, maps: Maps, prevalence: float, top_share: float | None = None
) -> dict[str, float]:
    """The metrics of a split by the names of objectives; those that are undefined are left out.

    Args:
        val: The split.
        maps: Its anomaly maps.
        prevalence: Of the calibrated ones.
        top_share: Of image scores; see `autosearch.contracts.Detector`.
    """
    truth = truth_of(val)
    ranking = Ranking.from_maps(maps, truth)
    scores = image_scores(maps, top_share, truth.scored)
    return _finite(
        {
            "rwap": ranking.rwap(),
            "ap": ranking.ap(),
            "pixel_auroc": ranking.pixel_auroc(),
            "aupro": ranking.aupro(),
            "rwap_calibrated": ranking.rwap(prevalence),
            "ap_calibrated": ranking.ap(prevalence),
            "image_auroc": auroc(scores, val.labels),
            "image_ap": average_precision(scores, val.labels),
        }
    )


def _origin(inputs: Inputs, chosen: Chosen, detector: Detector) -> dict[str, Any]:
    """Where the model comes from, and what goes in and out."""
    study, stage = inputs.spec.study, stage_of(detector)
    tiling: dict[str, Any] = inputs.data.info.get("tiling") or {}  # type: ignore[assignment]
    height, width = tiling.get("tile", inputs.data.val.pixels.shape[2:])
    # A model travels; the folders that its images lay in are nobody else's business.
    dataset: dict[str, Any] = {k: v for k, v in inputs.data.info.items() if k != "root"}
    if made := dataset.get("validation_synthetic"):
        dataset["validation_synthetic"] = {**made, "textures": Path(made["textures"]).name}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "autosearch": __version__,
        "packages": {name: _version(name) for name in _PACKAGES if _version(name)},
        "study": {
            "name": study.name,
            "runner": study.runner,
            "seed": study.seed,
            **chosen.of_study(),
            "spec_sha256": inputs.spec.content_hash(),
        },
        "input": {
            "name": INPUT,
            "type": "float32",
            "shape": ["batch", 3, height, width],
            "values": "RGB in [0, 1]; the graph normalises",
            "resize": RESIZE_RULE,
            "framing": inputs.data.info["framing"],
            **({"tiling": tiling} if tiling else {}),
            **({"stage": stage.to_plain()} if stage else {}),
            "orientation": inputs.spec.dataset.orientation,
        },
        "outputs": {
            MAPS: f"(batch, {height}, {width}) float32, higher is more anomalous",
            SCORES: f"(batch,) float32, of each map {score_text(detector.top_share)}",
        },
        "weights": inputs.runner.weights(),
        "dataset": dataset,
    }


def _scoring(
    val: ImageSet, maps: Maps, top_share: float | None, options: ExportOptions
) -> dict[str, Any]:
    """What an image's score is, thresholds, colours of heatmaps, and usual scores."""
    truth = truth_of(val)
    chosen = thresholds_of(maps, truth, options.rule, options.max_fpr, top_share)
    scores = image_scores(maps, top_share, truth.scored)[~val.labels]
    return {
        "image_score": {"top_share": top_share},
        "thresholds": {
            "chosen_on": "the validation split, with the detector fitted on the train split alone",
            **chosen.to_plain(),
        },
        "display": {"low": float(np.median(maps)), "high": float(maps.max())},
        "baseline": {
            "of": "normal images of the validation split, by the detector of the thresholds",
            "scores": sorted(map(float, scores)),
        },
    }


def _runtimes(frozen: Frozen, options: ExportOptions) -> dict[str, Any]:
    """How the graph is stored, how far runtimes are apart, and how long they take."""
    alone = {"threads": frozen.threads, "batch": 1}
    images = {name: round(frozen.tiles * time, 3) for name, time in frozen.latency.items()}
    return {
        "formats": list(options.formats),
        "opset": options.opset,
        "tested_from": {"onnxruntime": OLDEST_RUNTIME},
        "storage": "float16" if options.half else "float32",
        "half_error": frozen.half_error,
        "parity": {"tolerance": TOLERANCE, **frozen.parity},
        "latency_ms": {**alone, **images},
        **({"tile_latency_ms": {**alone, **frozen.latency}} if frozen.tiles > 1 else {}),
    }


def _publish(
    target: Path, description: Mapping[str, Any], files: dict[str, bytes], force: bool
) -> Exported:
    """Write everything beside the target, then move it there in one step."""
    sizes = {name: len(content) for name, content in files.items()}
    files[CARD] = model_card(description, sizes).encode()
    token = secrets.token_hex(4)
    temporary = target.with_name(f".{target.name}.{token}")
    try:
        for name, content in files.items():
            write_atomic(temporary / name, content)
        write_atomic(temporary / MANIFEST, seal(description, files))
        if target.exists():
            _check_target(target, force)
            old = target.with_name(f".{target.name}.{token}.old")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
    except OSError as error:
        raise StudyError(f"{target}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(target, read_manifest(target))


def _check_target(target: Path, force: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise StudyError(f"{target}: is there already; replace it with --force, or set --out")
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST).is_file()):
        raise StudyError(f"{target}: holds no export, so --force does not replace it")


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()
            if isinstance(value, (int, float)) and math.isfinite(value)}  # fmt: skip


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
