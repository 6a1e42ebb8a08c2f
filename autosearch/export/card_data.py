"""What the card of an exported model says of images and of pretrained weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autosearch.data import input_text


def data_and_weights(d: Mapping[str, Any]) -> Iterable[str]:
    """Paragraphs of a description: images, what was fitted on them, weights and their licences."""
    data, fit = d["dataset"], d["fit"]
    counts = "; ".join(
        f"{part}: " + ", ".join(f"{number} {kind}" for kind, number in types.items())
        for part, types in data["counts"].items()
    )
    yield (
        f"`{data['name']}/{data['category']}` ({counts}), resized to "
        f"{input_text(data)}: "
        f"{data['resize_rule']}. Masks: {data['mask_rule']}. SHA-256 of the images "
        f"`{data['sha256']}`."
    )
    if fit["anomalous"]:
        yield (
            f"It was fitted on the {fit['images']} images of the train split, of which "
            f"{fit['anomalous']} are anomalous. Validation chose the thresholds, and had a say in "
            "the training."
        )
    else:
        searched = fit.get("searched", fit["train"])
        first = "" if searched == fit["train"] else f"{searched} of "
        yield (
            f"It was fitted on {fit['images']} normal images: the {fit['train']} of the train "
            f"split and the {fit['validation_normal']} normal ones of validation. The thresholds "
            f"were chosen before, with a detector fitted on {first}the {fit['train']} alone."
        )
    for weights in d["weights"]:
        yield (
            f"Weights `{weights['name']}` ({weights['source']}): {weights['note']}. "
            f"SHA-256 `{weights['sha256']}`.{_licence(weights)}"
        )


def _licence(weights: Mapping[str, str]) -> str:
    """What weights come under, as far as it is known."""
    if (title := weights.get("licence")) is None:
        return ""
    place = f" (<{weights['licence_url']}>)" if "licence_url" in weights else ""
    text = f" They come under the {title}{place}"
    if (key := weights.get("licence_accepted")) is None:
        return f"{text}."
    return (
        f"{text}, accepted for the search (`backbone.accept_licence: {key}`). It holds for this "
        "model as well, which contains them: read it before you pass the model on."
    )
