"""The foundation models that we name, and on which terms weights of timm's models may be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autosearch.backbones.supernets import ofa_layout
from autosearch.errors import WeightsError


@dataclass(frozen=True)
class Licence:
    """Terms that weights come under.

    Attributes:
        title: What they are called.
        url: Where they stand; None where we know no place.
        key: What ``backbone.accept_licence`` must say before weights are used; None where there is
            nothing to accept.
    """

    title: str
    url: str | None = None
    key: str | None = None


LICENCES = {
    "apache-2.0": Licence("Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "mit": Licence("MIT License", "https://opensource.org/license/mit"),
    "bsd-3-clause": Licence("BSD 3-Clause License", "https://opensource.org/license/bsd-3-clause"),
    "cc-by-4.0": Licence("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "cc-by-nc-4.0": Licence("CC BY-NC 4.0", "https://creativecommons.org/licenses/by-nc/4.0/"),
    "dinov3-license": Licence(
        "DINOv3 License",
        "https://ai.meta.com/resources/models-and-libraries/dinov3-license",
        key="dinov3",
    ),
}
"""By the name that timm gives them; others are told by that name alone."""

FOUNDATION_MODELS = {
    "vit_small_patch14_reg4_dinov2.lvd142m": "DINOv2 ViT-S/14 with registers",
    "vit_base_patch14_reg4_dinov2.lvd142m": "DINOv2 ViT-B/14 with registers",
    "vit_small_patch16_dinov3.lvd1689m": "DINOv3 ViT-S/16",
    "vit_base_patch16_dinov3.lvd1689m": "DINOv3 ViT-B/16",
    "convnext_tiny.dinov3_lvd1689m": "DINOv3 ConvNeXt-T",
    "convnext_small.dinov3_lvd1689m": "DINOv3 ConvNeXt-S",
    "vit_base_patch16_clip_224.openai": "CLIP ViT-B/16, image tower",
    "vit_base_patch16_siglip_224.v2_webli": "SigLIP 2 ViT-B/16, image tower",
}
"""What is meant by timm's full names of those that the documentation names."""


def names_of(model: str) -> tuple[str, ...]:
    """The names that a model may be called by, the given one first.

    A timm model without a tag is the one with timm's own first tag, and the other way round.
    """
    if model in ofa_layout.MODEL_NAMES:
        return (model,)
    base, _, tag = model.partition(".")
    first = _config(base)
    usual = "" if first is None else str(first.tag or "")
    if not tag and usual:
        return (model, f"{base}.{usual}")
    return (model, base) if tag and tag == usual else (model,)


def title_of(model: str) -> str | None:
    """What a foundation model is called by people; None for all others."""
    return next((t for n in names_of(model) if (t := FOUNDATION_MODELS.get(n))), None)


def licence_of(model: str) -> Licence | None:
    """The licence of timm's weights of a model; None where timm names none.

    Args:
        model: Of timm, with or without a tag, or the name of a supernet, whose licence is ours.
    """
    config = None if model in ofa_layout.MODEL_NAMES else _config(model)
    name = None if config is None else config.license
    if not name or name == "unknown":
        return None
    return LICENCES.get(name) or Licence(name)


def check_licence(model: str, accepted: str | None) -> None:
    """Refuse weights whose licence must be accepted and was not.

    Raises:
        WeightsError: Names licence and place, and says how to accept it.
    """
    licence = licence_of(model)
    if licence is None or licence.key is None or licence.key == accepted:
        return
    raise WeightsError(
        f"{model}: its weights come under the {licence.title} ({licence.url}), which must be "
        "accepted before the first use: read it, then set backbone.accept_licence to "
        f"{licence.key} (--set backbone.accept_licence={licence.key}; of autosearch supernet, "
        f"--accept-licence {licence.key}); random weights need none"
    )


def _config(model: str) -> Any:
    """What timm says of its weights of a model; None where it has none."""
    import timm  # Takes as long as torch itself, and supernets need none of it.

    return timm.get_pretrained_cfg(model)
