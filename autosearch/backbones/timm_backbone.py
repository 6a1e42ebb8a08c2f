"""Any convolutional model of timm as a backbone that stops at its last needed level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from autosearch.backbones.features import FeatureExtractor, FeatureInfo
from autosearch.errors import ConfigError, WeightsError, did_you_mean


def timm_feature_info(name: str) -> tuple[FeatureInfo, ...]:
    """List the levels of a timm model, which are all that `TimmBackbone` can extract.

    Args:
        name: Model name, with or without a tag of pretrained weights.

    Raises:
        ConfigError: If timm has no such model, or the model does not return intermediate maps.
    """
    return _levels(name, create_without_weights(name))


def create_without_weights(name: str) -> Any:
    """Build a timm model that has shapes and names of tensors but no values.

    Raises:
        ConfigError: If timm has no such model.
    """
    with torch.device("meta"):
        return create(name)


def create(name: str) -> Any:
    """Build a timm model with fresh weights.

    Raises:
        ConfigError: If timm has no such model.
    """
    if not timm.is_model(name):
        raise ConfigError("backbone", name, f"a timm model; {did_you_mean(name, _names())}")
    return timm.create_model(name, pretrained=False)


class TimmBackbone(FeatureExtractor):
    """A timm model cut after the deepest of the asked levels, in evaluation mode and frozen.

    Args:
        name: timm's model name, such as ``tf_efficientnet_lite0``.
        levels: Indices into `timm_feature_info`, rising.
        state: Tensors of the whole model; without them the weights are fresh draws from the
            global generator.

    Raises:
        ConfigError: If the model or a level does not exist, or levels repeat or fall.
        WeightsError: If the tensors are not those of the model.
    """

    def __init__(
        self, name: str, levels: tuple[int, ...], state: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        model = create(name) if state is None else _with_state(name, state)
        known = _levels(name, model)
        if not levels or list(levels) != sorted(set(levels) & set(range(len(known)))):
            raise ConfigError("levels", levels, f"rising numbers from 0 to {len(known) - 1}")
        model.prune_intermediate_layers(list(levels), prune_norm=True, prune_head=True)
        self.model = model
        self.levels = list(levels)
        self.mean = tuple(model.pretrained_cfg["mean"])
        self.std = tuple(model.pretrained_cfg["std"])
        self.feature_info = tuple(known[level] for level in levels)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See `FeatureExtractor.forward`."""
        maps: list[Tensor] = self.model.forward_intermediates(
            images, indices=self.levels, stop_early=True, intermediates_only=True
        )
        return maps


def _with_state(name: str, state: Mapping[str, Tensor]) -> Any:
    """Build a timm model with copies of the given tensors, without drawing values first."""
    model = create_without_weights(name)
    types = {key: value.dtype for key, value in model.state_dict().items()}
    copies = {key: value.to(types.get(key), copy=True) for key, value in state.items()}
    try:
        model.load_state_dict(copies, assign=True)
        if any(buffer.is_meta for buffer in model.buffers()):
            # Some models have constants that their state does not hold.
            model = create(name)
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
    return list(timm.list_models())
