"""The README of an exported model: what it is, how good, how to run it, and its limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autosearch.data import CANVAS_STAGES, NORMAL, STAGES, TileGrid, numbered
from autosearch.export.card_data import data_and_weights
from autosearch.export.card_formats import other_formats
from autosearch.export.examples import PYTHON, examples_text
from autosearch.export.folder import (
    INT8,
    INT8_DATA,
    ONNX,
    ONNX_DATA,
    OPENVINO,
    OPENVINO_DATA,
    PICTURE,
    STATIC,
    TENSORS,
)
from autosearch.export.looked_at import REGION
from autosearch.export.members import configurations, members, whose
from autosearch.metrics import Criterion

_TESTED = {"train": "test, as searched", "all": "test, all normal images"}
"""Headings of test figures, by what was fitted to measure them."""

_FIGURES = {
    "rwap_calibrated": "rwAP, pixels, calibrated",
    "ap_calibrated": "AP, pixels, calibrated",
    "rwap": "rwAP, pixels",
    "ap": "AP, pixels",
    "pixel_auroc": "AUROC, pixels",
    "aupro": "AUPRO up to 30 % FPR",
    "image_auroc": "AUROC, images",
    "image_ap": "AP, images",
}


def model_card(description: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    """The card of a model.

    Args:
        description: As it will stand in ``model.json``, apart from files and hashes.
        sizes: Bytes of every other file, by name.
    """
    d = description
    study, data = d["study"], d["dataset"]
    parts = [
        f"# {study['name']}, {whose(d)}",
        f"Anomaly segmentation of `{data['name']}/{data['category']}`: for an image of such a "
        "part, a map of how unlike normal parts each pixel is, and one score. "
        f"Found and exported by autosearch {d['autosearch']} on {d['created'][:10]}.",
        *_warnings(d),
        *members(d),
        "## Intended use",
        "Finding defects in images taken like the training images: same part, camera, light and "
        "crop. Not for other parts, not as the only safeguard where a missed defect can harm "
        "somebody, and not before it was tried on images of the line that it is to run on.",
        "## Figures",
        *_figures(d),
        *_thresholds(d["thresholds"], _top_share(d)),
        f"![image, ground truth, anomaly map]({PICTURE})",
        "Validation images, their ground truth outlined, and their anomaly maps, from the "
        "detector that the thresholds were chosen with.",
        "## Run it",
        *_usage(d, sizes),
        "## What is inside",
        *_inside(d, sizes),
        "## Data",
        *data_and_weights(d),
        "## Limits",
        *_limits(d),
    ]
    return "\n\n".join(parts) + "\n"


def score_text(top_share: float | None) -> str:
    """What the score of an image is of its map's values, in words."""
    if top_share is None:
        return "the highest value"
    return f"the mean of the highest {100 * top_share:.4g} % of the values"


def _top_share(d: Mapping[str, Any]) -> float | None:
    share: float | None = (d.get("image_score") or {}).get("top_share")
    return share


def _warnings(d: Mapping[str, Any]) -> Iterable[str]:
    random = [weights["name"] for weights in d["weights"] if weights["source"] == "random"]
    if random:
        names = ", ".join(random)
        yield f"> **RANDOM WEIGHTS** ({names}): the accuracy of this model means nothing."
    if d["dataset"].get("synthetic"):
        yield "> **Synthetic defects**: these are figures of the demo. Do not quote them."
    if made := d["dataset"].get("validation_synthetic"):
        kinds = "perlin and cutpaste" if made["kind"] == "both" else made["kind"]
        yield (
            f"> **Synthetic validation** ({kinds}): anomalies made by a program were "
            "among those that this trial and its thresholds were chosen on."
        )


def _figures(d: Mapping[str, Any]) -> Iterable[str]:
    changed = any(one["search"] != one["exported"] for one in configurations(d))
    columns = {"validation, in the search": d["validation"]["search"]}
    if d.get("ensemble"):
        columns = {"validation": d["validation"]["exported_configuration"]}
    elif changed:
        columns["validation, as exported"] = d["validation"]["exported_configuration"]
    if d["test"]:
        columns[_TESTED[d["test"].get("fit", "train")]] = d["test"]["metrics"]
    rows = [f"| metric | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, title in _FIGURES.items():
        values = [column.get(name) for column in columns.values()]
        if any(value is not None for value in values):
            shown = " | ".join("" if v is None else f"{v:.4f}" for v in values)
            rows.append(f"| {title} | {shown} |")
    yield "\n".join(rows)
    prevalence = d["dataset"].get("prevalence")
    if prevalence is not None and any(
        found.get("rwap_calibrated") is not None for found in columns.values()
    ):
        yield (
            f"Calibrated figures weigh normal pixels so that {prevalence:g} of all are anomalous: "
            "only they can be compared between splits, whose own shares differ."
        )
    yield (
        "Measured with detectors fitted on the train split alone. The search chose "
        f"{'these trials' if d.get('ensemble') else 'this trial'} on "
        "the validation figures, so they are better than what new images will show. "
        + (
            "The test split took no part in any choice."
            if d["test"]
            else "The test split was not evaluated (`autosearch evaluate`)."
        )
    )
    yield from dict.fromkeys(_instead(configurations(d)))  # Of an ensemble each once.


def _instead(each: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """What exported configurations have in place of those of the search."""
    for one in each:
        searched, exported = dict(one["search"]), one["exported"]
        if (kind := searched.pop("precision", None)) is not None:
            yield f"The search computed networks in {kind}; the exported graph does in float32."
        if searched != exported:
            yield (
                f"Exported with coreset ratio {exported['coreset_ratio']:g} "
                "(k-centre) in place of the trial's own memory bank."
            )


def _thresholds(thresholds: Mapping[str, Any], top_share: float | None) -> Iterable[str]:
    rows = ["| threshold | value | TPR | FPR | F1 |", "|---|---:|---:|---:|---:|"]
    for name in ("image", "pixel"):
        chosen, shared = thresholds[name], name == "pixel" and "pixel_is" in thresholds
        reached = chosen["reached"]
        rates = " | ".join(
            "" if shared else f"{reached[rate]:.4f}" for rate in ("tpr", "fpr", "f1")
        )
        rows.append(f"| {name} | {chosen['value']:.6g} | {rates} |")
    yield "\n".join(rows)
    rule = Criterion.from_plain(thresholds["image"]).text
    yield (
        f"Called anomalous is what has a score at or above the threshold. Chosen for {rule} on "
        "the validation split; the rates are those reached there, so better than on new images. "
        f"An image's score is {score_text(top_share)} of its map that count."
    )
    if "pixel_is" in thresholds:
        follows = (
            "A pixel that reaches it makes its image anomalous"
            if top_share is None
            else "An anomalous image has a pixel that reaches it, and so may a normal one"
        )
        yield (
            f"The pixel threshold is {thresholds['pixel_is']}. {follows}; how much of a defect "
            "it covers is not known."
        )


_SEAMS = {
    "blend": "these are blended into",
    "middle": "the middles of these, up to half of what tiles share, make up",
}


def _looked_at(described: Mapping[str, Any], sizes: Mapping[str, int]) -> Iterable[str]:
    """What is done before a graph is given an image, which no graph does."""
    parts, framing = [], described.get("framing") or {}
    if (region := framing.get("region")) is not None:
        top, left, bottom, right = region
        parts.append(f"rows {top} to {bottom} and columns {left} to {right} of a file are cut out")
    if (stage := framing.get("preprocess", "none")) != "none":
        given = ", unless its mask comes with `--foreground`" if framing.get("marked") else ""
        parts.append(f"an object is looked for{given} (`{stage}`: {STAGES[stage]})")
    if REGION in sizes:
        parts.append(f"what is black in `{REGION}` counts nowhere")
    if (plain := described.get("stage")) is not None:
        done = f"`{plain['stage']}`: {CANVAS_STAGES[plain['stage']]}"
        parts.append(f"the object is looked for on the input ({done}; the map is taken back)")
    if parts:
        yield (
            f"Of an image, {', and '.join(parts)}: `predict` and `autosearch.Predictor` do that, "
            "the graph does not."
        )


def _usage(d: Mapping[str, Any], sizes: Mapping[str, int]) -> Iterable[str]:
    (height, width), value = d["input"]["shape"][-2:], d["thresholds"]["image"]["value"]
    grid, stage = _grid(d), d["input"].get("stage")
    if _graphs(d, ONNX)[0] in sizes:
        yield "```\nautosearch predict THIS_FOLDER images/ --out predictions/\n```"
        yield (
            "writes heatmaps, masks and scores, and needs no torch."
            + ("" if grid or stage else " Or in Python, with onnxruntime, numpy and Pillow:")
        )
    if grid is not None:
        yield (
            f"Images come onto a canvas of {grid.text}; every tile has a map, and "
            f"{_SEAMS[grid.seams]} that of the image, by which it is scored. `input.framing` "
            "and `input.tiling` of `model.json` say how; `predict` and `autosearch.Predictor` do "
            "it, one image at a time."
        )
        if d["input"]["tiling"]["banks"] == "position":
            yield "Every position of a tile has a graph of its own, row by row from the top left."
    elif ONNX in sizes and stage is None:
        yield "\n".join(
            [
                "```python",
                "import numpy as np, onnxruntime, PIL.Image",
                'image = PIL.Image.open("part.png").convert("RGB").resize('
                f"({width}, {height}), PIL.Image.Resampling.BILINEAR)",
                "images = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255",
                f'session = onnxruntime.InferenceSession("{ONNX}")',
                'maps, scores = session.run(["anomaly_map", "score"], {"images": images})',
                f"print(scores[0], scores[0] >= {value!r})",
                "```",
            ]
        )
        yield (
            "This resizes in 8 bits; `predict` resizes in float32 as the search did, so scores "
            "differ a little. It is for images of the shape that the input has: others are "
            "brought onto it as `input.framing` of `model.json` says, which `predict` and "
            "`autosearch.Predictor` do."
        )
    yield from _looked_at(d["input"], sizes)
    if (beside := _graphs(d, ONNX_DATA)[0]) in sizes:
        yield (
            f"`{beside}` holds the large tensors of `{_graphs(d, ONNX)[0]}`, which would pass "
            "2 GB with them, and must lie beside it under that name."
        )
    if PYTHON in sizes:
        yield examples_text(d)
    if (network := _graphs(d, OPENVINO)[0]) in sizes:
        yield (
            f"`{network}` is the same graph for OpenVINO: "
            "`autosearch predict … --provider openvino`."
        )
    yield from other_formats(d, _graphs(d, STATIC)[0], _graphs(d, INT8)[0])
    if (tensors := _graphs(d, TENSORS)[0]) in sizes:
        yield (
            f"`{tensors}` holds the tensors of the torch module that the graph was made from: "
            "`features.extractor.*` is the network, batch norms folded into the convolutions "
            f"before them; {_bank_tensors(d)}. Read it with "
            "`safetensors.torch.load_file`; a detector rebuilt from the study and fitted on the "
            "same images takes them by `detector.module().load_state_dict`. Nothing in this "
            "folder is run by loading it."
        )


def _inside(d: Mapping[str, Any], sizes: Mapping[str, int]) -> Iterable[str]:
    rows = ["| part | configuration |", "|---|---|"]
    for name, values in d["architecture"].items():
        used = {key: v for key, v in values.items() if v is not None and v is not False}
        shown = ", ".join(f"{key} {_short(value)}" for key, value in used.items())
        if shown:
            rows.append(f"| {name} | {shown} |")
    yield "\n".join(rows)
    cost = d["cost"]
    yield (
        f"{cost['flops'] / 1e9:.3f} GFLOPs of the network and {cost['search_flops'] / 1e9:.3f} of "
        f"the nearest-neighbour search per image, {cost['parameters']:,} parameters, a memory "
        f"bank of {cost['bank_bytes'] / 1e6:.1f} MB in float32{_compared(d)}."
    )
    threads = d["latency_ms"]["threads"]
    taken = f"median, {threads} thread{'' if threads == 1 else 's'}"
    if (grid := _grid(d)) is not None:
        yield f"One tile takes ({taken}): {_times(d['tile_latency_ms'])}."
        taken = f"{len(grid)} tiles, each as long as one alone"
    yield f"One image takes ({taken}): {_times(d['latency_ms'])}."
    yield "\n".join(["| file | size |", "|---|---:|", *_files(d, sizes)])
    parity = {k: v for k, v in d["parity"].items() if k != "tolerance"}
    for name, batches in parity.items():
        yield (
            f"Maps of {name} differ from torch's by at most {max(batches.values()):.1e} of the "
            "highest score (batches of 1 and 3)."
        )
    if _graphs(d, ONNX)[0] in sizes:
        yield (
            f"The graph is in opset {d['opset']}, with the lowest IR version that goes with it. "
            "The oldest version of ONNX Runtime that such graphs were tested with is "
            f"{d['tested_from']['onnxruntime']}; for one that wants less: "
            "`autosearch export … --opset 15`."
        )
    if d["half_error"] is not None:
        yield (
            "Large tensors are stored in half precision and computed with in float32; against "
            f"full precision, maps differ by at most {d['half_error']:.1e} of the highest score."
        )


def _bank_tensors(d: Mapping[str, Any]) -> str:
    kinds = {"window", "neighbour_images", "fusion", "metric"}
    if d.get("ensemble"):
        return "all of them below `members.0.` and so on in order of the trials, banks as well"
    if kinds & d["configuration"]["exported"].keys():
        return "`banks.*` are the memory banks, patches less their `origin`"
    return "`bank.*` are blocks of the memory bank, one patch a column, less `origin`"


def _compared(d: Mapping[str, Any]) -> str:
    """Of a bank that is not compared with as a whole."""
    rows = d.get("figures", {}).get("rows_a_query")
    return "" if rows is None else f", of which a patch meets up to {rows:,.0f} rows"


def _grid(d: Mapping[str, Any]) -> TileGrid | None:
    plain = d["input"].get("tiling")
    return None if plain is None else TileGrid.from_plain(plain)


def _graphs(d: Mapping[str, Any], name: str) -> list[str]:
    """Names of the files that stand for one where every position of a tile has its own."""
    grid, banks = _grid(d), d["input"].get("tiling", {}).get("banks")
    count = 1 if grid is None or banks == "shared" else len(grid)
    return [numbered(name, number, count) for number in range(count)]


_GRAPHS = (ONNX, ONNX_DATA, OPENVINO, OPENVINO_DATA, STATIC, INT8, INT8_DATA, TENSORS)
"""Of these there may be one for every position of a tile."""


def _files(d: Mapping[str, Any], sizes: Mapping[str, int]) -> Iterable[str]:
    """A row a file, or for all files that stand for one."""
    alike = {name: _graphs(d, kind) for kind in _GRAPHS for name in _graphs(d, kind)}
    for name, size in sizes.items():
        family = alike.get(name, [name])
        if len(family) == 1:
            yield f"| `{name}` | {size / 1e6:.2f} MB |"
        elif name == family[0]:
            total = sum(sizes[other] for other in family)
            yield f"| `{name}` to `{family[-1]}` | {total / 1e6:.2f} MB |"


def _times(latency: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.1f} ms"
        for name, value in latency.items()
        if name not in ("threads", "batch")
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _limits(d: Mapping[str, Any]) -> Iterable[str]:
    normal = d["dataset"]["counts"]["val"].get(NORMAL, 0)
    refitted = (
        "- It was fitted on more normal images than the detector that the thresholds were chosen "
        "with, so scores of normal parts tend to be a little lower.",
    )
    yield "\n".join(
        [
            "- Defects of kinds that validation did not hold may score below the threshold.",
            f"- The image threshold rests on {normal} normal images; its false-positive rate is "
            "no surer than that number allows.",
            *(refitted if d["fit"]["validation_normal"] else ()),
            "- What changes the look of normal parts (light, lens, position, material) raises "
            "scores everywhere; export again with images of the new look.",
            "- `model.json` holds hashes that find damage and careless edits, not forgery.",
        ]
    )
