"""The teacher of a distillation: a timm model, tapped where the supernet's stages end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autosearch.backbones.features import resize
from autosearch.backbones.supernets.token_targets import (
    LEARNT_AT,
    block_of_each_map,
    blocks_at,
)
from autosearch.backbones.timm_backbone import (
    TimmBackbone,
    create,
    made_of_tokens,
    timm_feature_info,
    timm_has_final_norm,
)
from autosearch.errors import ConfigError, one_line

REDUCTIONS = (2, 4, 8, 16, 16, 32)
"""Of the supernet's maps: block 0, then the end of each stage."""

_PROBE = 64


@dataclass(frozen=True)
class Tap:
    """One map that a teacher answers with.

    Attributes:
        index: Its place among the maps that the teacher computes.
        channels: Number of channels.
        reduction: Of its sides against the image's.
    """

    index: int
    channels: int
    reduction: int


class Teacher(nn.Module):
    """A frozen model that answers with one map per map of the supernet, or None where it has none.

    Models made of a stem and a sequence ``blocks`` of stages are tapped behind each stage, which
    tells apart stages of one resolution; plain transformers behind some of their blocks, behind
    their final norm too, if they have one (see `token_targets`); any other model at timm's feature
    levels.

    Args:
        name: timm's model name.
        state: Tensors of the whole model.
        blocks: Shares of a plain transformer's depth; None for a quarter, a half, three quarters
            and the whole.

    Attributes:
        mean: Mean per RGB channel of the normalisation that the weights expect, for [0, 1] input.
        std: Standard deviation of the same.
        taps: One per entry of `REDUCTIONS`, or None.
        stages: Where a tap stands behind a stage of blocks, that stage, otherwise None.
        blocks: Which blocks of a plain transformer are learnt, in words; None of other models.

    Raises:
        ConfigError: If timm has no such model, it has no map at the supernet's resolutions or
            takes images of one size only, or blocks are out of range or asked of a model that is
            no plain transformer.
        WeightsError: If the tensors are not those of the model.
    """

    def __init__(
        self, name: str, state: Mapping[str, Tensor], blocks: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.name = name
        known = timm_feature_info(name)
        tokens = made_of_tokens(known)
        if blocks is not None and not tokens:
            raise ConfigError(
                "blocks",
                list(blocks),
                f"none: {name} is no plain transformer, all maps are learnt",
            )
        levels = blocks_at(blocks, len(known)) if tokens else tuple(range(len(known)))
        normed = tokens and timm_has_final_norm(name)
        self.blocks = _in_words(levels, len(known), normed) if tokens else None
        # Checks names and shapes of the tensors, and knows the model's normalisation.
        backbone = TimmBackbone(name, levels, state, final_norm=normed)
        self.mean, self.std = backbone.mean, backbone.std
        sections = _sections(name, state)
        self.sections = nn.ModuleList(sections) if sections else None
        self.backbone = None if sections else backbone
        self.eval().requires_grad_(False)
        self._last = len(sections) if sections else len(levels)
        self.taps = self._assign(tokens)
        used = [tap.index for tap in self.taps if tap is not None]
        if not used:
            raise ConfigError("teacher", name, f"a model with maps at one of 1/{REDUCTIONS}")
        self._last = max(used) + 1
        self.stages: tuple[nn.Module | None, ...] = tuple(
            sections[tap.index] if sections and tap is not None else None for tap in self.taps
        )

    def forward(self, images: Tensor) -> list[Tensor | None]:
        """Compute the maps.

        Args:
            images: ``(N, 3, H, W)`` in [0, 1].

        Returns:
            Per entry of `REDUCTIONS` a map ``(N, C, h, w)``, or None.
        """
        maps = self._maps(images)
        if self.blocks is None:
            return [None if tap is None else maps[tap.index] for tap in self.taps]
        height, width = images.shape[-2:]
        return [
            # The supernet's strides round up where they do not divide the image.
            None
            if tap is None
            else resize(maps[tap.index], (-(-height // tap.reduction), -(-width // tap.reduction)))
            for tap in self.taps
        ]

    def input_side(self, side: int) -> int:
        """Side in pixels of what the teacher sees of a square image: transformers round."""
        return side if self.backbone is None else self.backbone.input_size((side, side))[0]

    def _maps(self, images: Tensor) -> list[Tensor]:
        shape = (1, 3, 1, 1)
        mean = images.new_tensor(self.mean).view(shape)
        features, maps = (images - mean) / images.new_tensor(self.std).view(shape), []
        if self.backbone is not None:
            return list(self.backbone(features))
        for section in list(self.sections or ())[: self._last]:
            features = section(features)
            maps.append(features)
        return maps

    def _assign(self, tokens: bool) -> tuple[Tap | None, ...]:
        """Give the maps of each resolution to the supernet's of the same, in order of depth.

        Those of tokens are given in order of depth alone, as they are resized.
        """
        try:
            with torch.no_grad():
                maps = self._maps(torch.zeros(1, 3, _PROBE, _PROBE))
        except (AssertionError, RuntimeError, ValueError) as error:
            allowed = f"a model that takes images of any size ({one_line(str(error))[:100]})"
            raise ConfigError("teacher", self.name, allowed) from error
        if tokens:
            given = zip(LEARNT_AT, block_of_each_map(len(maps)), strict=True)
            taps = [Tap(index, maps[index].shape[1], reduction) for reduction, index in given]
            return (*[None] * (len(REDUCTIONS) - len(taps)), *taps)
        offered = [Tap(i, m.shape[1], _PROBE // m.shape[-1]) for i, m in enumerate(maps)]
        assigned: list[Tap | None] = [None] * len(REDUCTIONS)
        for reduction in set(REDUCTIONS):
            taps = [tap for tap in offered if tap.reduction == reduction]
            places = [i for i, wanted in enumerate(REDUCTIONS) if wanted == reduction]
            # With too few maps, the last places get them: what lies before has their gradient.
            for place, tap in zip(places[-len(taps) :] if taps else [], taps, strict=False):
                assigned[place] = tap
        return tuple(assigned)


def _in_words(levels: Sequence[int], depth: int, normed: bool) -> str:
    numbers = ", ".join(str(level + 1) for level in levels)
    return f"{numbers} of {depth}" + (", behind the final norm" if normed else "")


def _sections(name: str, state: Mapping[str, Tensor]) -> list[nn.Module]:
    """Cut a model into its stem and stages, or into nothing if it is not built that way."""
    model = create(name)
    blocks = list(getattr(model, "blocks", ()))
    staged = bool(blocks) and all(isinstance(stage, nn.Sequential) for stage in blocks)
    if not staged or not hasattr(model, "conv_stem") or not hasattr(model, "bn1"):
        return []
    model.load_state_dict(dict(state))
    first = nn.Sequential(model.conv_stem, model.bn1, blocks[0])
    return [first, *blocks[1:]]
