"""Any model of timm as a backbone that stops at its last needed level.

Levels of convolutional models and of transformers in stages are their stages. Those of plain
transformers are their blocks: tokens as a map, without class and register tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from autosearch.backbones.features import FeatureExtractor, FeatureInfo, resize
from autosearch.errors import ConfigError, Infeasible, WeightsError, did_you_mean

Size = tuple[int, int]

_ANY_SIZE: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})
"""What timm's transformers are made with to take images of other sizes, the first that fits.

Position embeddings are then interpolated for every image; rotary ones fit any size.
"""


def timm_feature_info(name: str) -> tuple[FeatureInfo, ...]:
    """List the levels of a timm model, which are all that `TimmBackbone` can extract.

    Args:
        name: Model name, with or without a tag of pretrained weights.

    Raises:
        ConfigError: If timm has no such model, or the model does not return intermediate maps.
    """
    return _levels(name, create_without_weights(name))


def timm_has_final_norm(name: str) -> bool:
    """Whether a timm model has a norm behind its last block that fits the tokens of every block.

    Raises:
        ConfigError: If timm has no such model, or the model does not return intermediate maps.
    """
    model = create_without_weights(name)
    return _has_final_norm(model, _levels(name, model))


def create_without_weights(name: str) -> Any:
    """Build a timm model that has shapes and names of tensors but no values.

    Raises:
        ConfigError: If timm has no such model.
    """
    with torch.device("meta"):
        return create(name)


def create(name: str, **options: bool) -> Any:
    """Build a timm model with fresh weights.

    Args:
        name: Model name, with or without a tag of pretrained weights.
        options: Of the model, which change none of its tensors.

    Raises:
        ConfigError: If timm has no such model.
    """
    import timm  # Takes as long as torch itself, and supernets need none of it.

    if not timm.is_model(name):
        raise ConfigError("backbone", name, f"a timm model; {did_you_mean(name, _names())}")
    return timm.create_model(name, pretrained=False, **options)


class TimmBackbone(FeatureExtractor):
    """A timm model cut after the deepest of the asked levels, in evaluation mode and frozen.

    Transformers take sides that are multiples of their patch. Images of other sides are resized to
    the nearest ones, each side on its own, by less than half a patch.

    Args:
        name: timm's model name, such as ``tf_efficientnet_lite0`` or ``vit_small_patch16_dinov3``.
        levels: Indices into `timm_feature_info`, rising.
        state: Tensors of the whole model; without them the weights are fresh draws from the
            global generator.
        final_norm: Whether tokens of every level go through the norm behind the last block;
            without effect on models that have none for all of them (see `timm_has_final_norm`).
        image_size: Height and width of all images to come. Position embeddings are then
            interpolated once, by timm, and constants of an exported graph. Without it, images may
            be of any size, and embeddings are interpolated in every pass.

    Raises:
        ConfigError: If the model or a level does not exist, or levels repeat or fall.
        WeightsError: If the tensors are not those of the model.
        Infeasible: If the model does not take images of ``image_size``.
    """

    def __init__(
        self,
        name: str,
        levels: tuple[int, ...],
        state: Mapping[str, Tensor] | None = None,
        *,
        final_norm: bool = False,
        image_size: Size | None = None,
    ) -> None:
        super().__init__()
        options = _options(name, image_size is not None)
        model = create(name, **options) if state is None else _with_state(name, state, options)
        known = _levels(name, model)
        if not levels or list(levels) != sorted(set(levels) & set(range(len(known)))):
            raise ConfigError("levels", levels, f"rising numbers from 0 to {len(known) - 1}")
        normed = final_norm and _has_final_norm(model, known)
        model.prune_intermediate_layers(list(levels), prune_norm=not normed, prune_head=True)
        self.model = model
        self.levels = list(levels)
        self.mean = tuple(model.pretrained_cfg["mean"])
        self.std = tuple(model.pretrained_cfg["std"])
        # Blocks of tokens return no maps, so these do: each map is what a named module returns.
        self.maps = nn.ModuleList(nn.Identity() for _ in levels if made_of_tokens(known))
        self.feature_info = tuple(
            replace(info, module=f"maps.{place}") if self.maps else info
            for place, info in enumerate(known[level] for level in levels)
        )
        self.class_token = known[0].channels if _has_class_token(model, known) else None
        self._norm = {"norm": True} if normed else {}
        self._multiple = _multiple(model, known)
        self._fixed: Size | None = None
        if image_size is not None:
            size = self.input_size(image_size)
            if (refusal := _refusal(name, size, levels[-1])) is not None:
                raise Infeasible(f"{name} takes no images of {size[0]} x {size[1]}: {refusal}")
            if _sets_size_once(name):
                model.set_input_size(img_size=size)
                self._fixed = size
        self.eval().requires_grad_(False)

    def input_size(self, size: Size) -> Size:
        """See `FeatureExtractor.input_size`: the nearest multiples of the patch."""
        if self._fixed is not None:
            return self._fixed
        height, width = (
            max(1, (2 * side + patch) // (2 * patch)) * patch
            for side, patch in zip(size, self._multiple, strict=True)
        )
        return height, width

    def forward(self, images: Tensor) -> list[Tensor]:
        """See `FeatureExtractor.forward`."""
        maps: list[Tensor] = self._intermediates(images)
        return self._left(maps)

    def with_class_token(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `FeatureExtractor.with_class_token`."""
        if self.class_token is None:
            return super().with_class_token(images)
        pairs: list[tuple[Tensor, Tensor]] = self._intermediates(images, return_prefix_tokens=True)
        return self._left([found for found, _ in pairs]), pairs[-1][1][:, 0]

    def _intermediates(self, images: Tensor, **asked: bool) -> list[Any]:
        found: list[Any] = self.model.forward_intermediates(
            resize(images, self.input_size((images.shape[-2], images.shape[-1]))),
            indices=self.levels,
            stop_early=True,
            intermediates_only=True,
            **self._norm,
            **asked,
        )
        return found

    def _left(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps as they leave the network."""
        if not self.maps:
            return maps
        return [leave(found) for leave, found in zip(self.maps, maps, strict=True)]


@cache
def _any_size(name: str) -> dict[str, bool]:
    """What a model is made with to take images of other sizes than its own; maybe nothing."""
    if not hasattr(create_without_weights(name), "patch_embed"):
        return {}
    for options in _ANY_SIZE:
        try:
            with torch.device("meta"):
                create(name, **options)
        except TypeError:  # The model has no such option.
            continue
        return options
    return {}


@cache
def _sets_size_once(name: str) -> bool:
    """Whether a model is brought to one size of images.

    Windows of transformers in stages would change with it, so those that take any size are left.
    """
    model = create_without_weights(name)
    tokens = made_of_tokens(_levels(name, model))
    return hasattr(model, "set_input_size") and (tokens or not _any_size(name))


def _options(name: str, fixed: bool) -> dict[str, bool]:
    if fixed and _sets_size_once(name):
        return dict.fromkeys(_any_size(name), False)
    return _any_size(name)


@cache
def _refusal(name: str, size: Size, level: int) -> str | None:
    """Why a model gives no maps of a level for images of a size; asked of shapes alone."""
    try:
        with torch.device("meta"):
            model = create(name, **_options(name, fixed=True))
            if _sets_size_once(name):
                model.set_input_size(img_size=size)
            model.forward_intermediates(
                torch.zeros(2, 3, *size), indices=[level], stop_early=True, intermediates_only=True
            )
    except (AssertionError, RuntimeError, ValueError) as error:
        return " ".join(str(error).split())[:200]
    return None


def made_of_tokens(known: tuple[FeatureInfo, ...]) -> bool:
    """Whether all levels of a model are alike, as blocks of plain transformers are."""
    return len(known) > 1 and len({(info.channels, info.reduction) for info in known}) == 1


def _has_final_norm(model: Any, known: tuple[FeatureInfo, ...]) -> bool:
    norm = getattr(model, "norm", None)
    return made_of_tokens(known) and norm is not None and not isinstance(norm, nn.Identity)


def _has_class_token(model: Any, known: tuple[FeatureInfo, ...]) -> bool:
    """Whether a class token goes through all blocks together with those of patches."""
    given = signature(model.forward_intermediates).parameters
    there = getattr(model, "cls_token", None) is not None
    return made_of_tokens(known) and there and "return_prefix_tokens" in given


def _multiple(model: Any, known: tuple[FeatureInfo, ...]) -> Size:
    """What sides of images must be multiples of."""
    if made_of_tokens(known):
        return known[0].reduction, known[0].reduction
    embedding: Any = getattr(model, "patch_embed", None)
    if hasattr(embedding, "strict_img_size"):  # One of timm's own, which refuses other sides.
        height, width = map(int, embedding.patch_size)
        return height, width
    return 1, 1


def _with_state(name: str, state: Mapping[str, Tensor], options: Mapping[str, bool]) -> Any:
    """Build a timm model with copies of the given tensors, without drawing values first."""
    with torch.device("meta"):
        model = create(name, **options)
    types = {key: value.dtype for key, value in model.state_dict().items()}
    copies = {key: value.to(types.get(key), copy=True) for key, value in state.items()}
    try:
        model.load_state_dict(copies, assign=True)
        if any(buffer.is_meta for buffer in model.buffers()):
            # Some models have constants that their state does not hold.
            model = create(name, **options)
            model.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise WeightsError(f"not the weights of {name}: {first}") from error
    return model


def _levels(name: str, model: Any) -> tuple[FeatureInfo, ...]:
    if not hasattr(model, "forward_intermediates"):
        raise ConfigError("backbone", name, "a timm model that returns intermediate maps")
    return tuple(
        FeatureInfo(level, info["num_chs"], info["reduction"], f"model.{info['module']}")
        for level, info in enumerate(model.feature_info)
    )


def _names() -> list[str]:
    import timm

    return list(timm.list_models())
