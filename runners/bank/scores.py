"""From patches to scores: nearest rows of a bank, mixed over levels, as plain operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autosearch.backbones import PatchFeatures, to_patches
from autosearch.memory import AlikeImages, least

from ..spreading import Spreading
from .foreground import Foreground
from .transform import PatchTransform, level_slices

_EXPORT_BLOCK, _EXPORT_BLOCKS = 2048, 64
"""Patches that an exported graph compares at a time, and how many such steps it has at most."""

Answers = Callable[[Tensor, Tensor | None], Tensor]
"""Patches ``(N, P, d)`` and, if images are chosen, the ``(N, n)`` chosen to scores ``(N, P)``."""


class NearestRows(nn.Module):
    """Mean squared distances of patches to the nearest of a whole bank.

    The bank is compared block by block, so that no more than the products of the queries with one
    block are held at a time, however large the bank: per image ``4 * h * w`` bytes for every
    patch of a block.

    Args:
        bank: ``(M, D)`` patches of normal images.
        num_neighbors: Neighbours whose mean squared distance is the score.

    Attributes:
        origin: ``(D,)`` mean of the bank. Products of features with a large mean would leave no
            digits for their differences.
        bank: Blocks of ``(D, C)``, each column a patch less the origin.
        squares: ``(M,)`` squared norms of these columns. Not part of the state: it follows from
            the bank, also after other tensors were loaded.
    """

    origin: Tensor
    squares: Tensor

    def __init__(self, bank: Tensor, num_neighbors: int) -> None:
        super().__init__()
        self.num_neighbors = num_neighbors
        self.register_buffer("origin", bank.mean(dim=0))
        size = max(_EXPORT_BLOCK, math.ceil(len(bank) / _EXPORT_BLOCKS))
        self.bank = nn.ParameterList(
            nn.Parameter(part.T.contiguous(), requires_grad=False)
            for part in torch.split(bank - self.origin, size)
        )
        self.register_buffer("squares", self._squares(), persistent=False)
        self.register_load_state_dict_post_hook(_refresh_squares)  # type: ignore[no-untyped-call]

    def forward(self, patches: Tensor, alike: Tensor | None = None) -> Tensor:
        """``(N, P, D)`` to ``(N, P)``."""
        return self.scores(patches.flatten(0, 1)).view(-1, patches.shape[1])

    def scores(self, patches: Tensor) -> Tensor:
        """``(Q, D)`` to ``(Q,)``."""
        queries = patches - self.origin
        # |a - b|² = |a|² + |b|² - 2ab: the last two in one product, the first at the very end.
        extended = torch.cat([queries * -2, torch.ones_like(queries[:, :1])], dim=1)
        nearest, start = [], 0
        for block in self.bank:
            stop = start + block.shape[1]
            rows = torch.cat([block, self.squares[None, start:stop]])
            nearest.append(least(extended @ rows, self.num_neighbors))
            start = stop
        distances = least(torch.cat(nearest, dim=1), self.num_neighbors)
        distances = distances + queries.square().sum(dim=1, keepdim=True)
        return distances.clamp(min=0).mean(dim=1)

    def _squares(self) -> Tensor:
        return torch.cat([part.square().sum(dim=0) for part in self.bank])


class NearestPatchScore(NearestRows):
    """A detector with one bank of whole patches as one graph.

    Args:
        features: Images to patch features.
        bank: ``(M, D)`` patches of normal images.
        num_neighbors: Neighbours whose mean squared distance is the score.
    """

    def __init__(self, features: PatchFeatures, bank: Tensor, num_neighbors: int) -> None:
        super().__init__(bank, num_neighbors)
        self.features = features

    def forward(self, images: Tensor, alike: Tensor | None = None) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``; higher is more anomalous."""
        features = self.features(images)
        count, _, height, width = features.shape
        scores = self.scores(to_patches(features)).view(count, 1, height, width)
        return upsampled(scores, images)


class Mixture(nn.Module):
    """How patches come to banks, and what these answer to scores.

    Args:
        sizes: Channels of each extracted map, in the order in which they lie in a patch.
        transforms: What patches become: one for every map if each has a bank, else one.
        factors: Of each bank's answers in the score; none for those of a single bank as they are.
        alike: Chooses the images that one is compared with, by its last map; None for all.
        places: ``(p,)`` cells over which that map is averaged.
        token: Numbers of a class token behind every patch, by which images are chosen instead.
        floors: What is added to each bank's answers before their roots are taken; none for answers
            as they are.
    """

    factors: Tensor
    places: Tensor
    floors: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        transforms: Sequence[PatchTransform],
        factors: Sequence[float] = (),
        alike: AlikeImages | None = None,
        places: Tensor | None = None,
        token: int = 0,
        floors: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self._sizes, self.transforms = tuple(sizes), nn.ModuleList(transforms)
        self.alike, self._mixed, self._token = alike, len(factors) > 0, token
        self._rooted = len(floors) > 0
        if self._rooted:
            self.register_buffer("floors", torch.tensor(list(floors), dtype=torch.float32))
        self.register_buffer("factors", torch.tensor(list(factors), dtype=torch.float32))
        if places is not None:
            self.register_buffer("places", places, persistent=False)

    def vectors(self, patches: Tensor, places: Tensor | None = None) -> tuple[Tensor, ...]:
        """Patches to the vectors of every bank.

        Args:
            patches: ``(N, P, D)``, or ``(M, D)`` of given places.
            places: ``(M,)`` numbers of these.

        Returns:
            ``(..., d)`` each.
        """
        parts = [patches[..., : sum(self._sizes)] if self._token else patches]
        if len(self.transforms) > 1:
            # Slices, as ONNX cannot convert a split to older opsets.
            parts = [patches[..., part] for part in level_slices(self._sizes)]
        pairs = zip(self.transforms, parts, strict=True)
        return tuple(transform(part, places) for transform, part in pairs)

    def weighed(self, factors: Sequence[float], floors: Sequence[float] = ()) -> Mixture:
        """The same with other factors and floors, sharing all else."""
        # What counts nowhere was never averaged over.
        places = getattr(self, "places", None)
        made = Mixture(self._sizes, [], factors, self.alike, places, self._token, floors)
        made.transforms = self.transforms
        return made

    @property
    def lengths(self) -> tuple[int, ...]:
        """Numbers of a patch that each bank is given."""
        return self._sizes if len(self.transforms) > 1 else (sum(self._sizes),)

    def last(self, patches: Tensor) -> Tensor:
        """``(N, P, D)`` to the ``(N, P, d)`` of the last map."""
        stop = sum(self._sizes)
        return patches[..., stop - self._sizes[-1] : stop]

    def pooled(self, patches: Tensor) -> Tensor:
        """``(N, P, D)`` to what images are likened by, ``(N, d)``.

        That is the class token, or the mean of the last map over the cells that count.
        """
        if self._token:
            return patches[:, 0, -self._token :]
        return self.last(patches).index_select(1, self.places).mean(1)

    def scores(self, patches: Tensor, banks: Sequence[Answers | None]) -> Tensor:
        """Scores of patches.

        Args:
            patches: ``(N, P, D)``.
            banks: One for every map, or the one; None for a map that does not count.

        Returns:
            ``(N, P)``.
        """
        return self.mixed(self.answers(patches, banks))

    def answers(self, patches: Tensor, banks: Sequence[Answers | None]) -> list[Tensor | None]:
        """What each bank answers, ``(N, P)``; see `scores`."""
        alike = None if self.alike is None else self.alike(self.pooled(patches))
        pairs = zip(self.vectors(patches), banks, strict=True)
        return [None if bank is None else bank(part, alike) for part, bank in pairs]

    def mixed(self, answers: Sequence[Tensor | None]) -> Tensor:
        """The answers of all banks as scores, ``(N, P)``."""
        if self._rooted:
            answers = [
                None if answer is None else (answer.clamp(min=0) + self.floors[number]).sqrt()
                for number, answer in enumerate(answers)
            ]
        if self._mixed:
            answers = [
                None if answer is None else self.factors[number] * answer
                for number, answer in enumerate(answers)
            ]
        return torch.stack([answer for answer in answers if answer is not None]).sum(0)


class MixedScore(nn.Module):
    """A fitted detector with any kind of banks as one graph.

    Args:
        features: Images to patch features.
        mixture: Patches to what banks are asked, and back.
        banks: As `Mixture.scores` takes them, as modules.
        maps: What scores become.
        foreground: Which patches count, by the last map; None where all do.
    """

    def __init__(
        self,
        features: PatchFeatures,
        mixture: Mixture,
        banks: Sequence[nn.Module | None],
        maps: ScoreMaps,
        foreground: Foreground | None = None,
    ) -> None:
        super().__init__()
        self.features, self.mixture, self.maps = features, mixture, maps
        self.foreground = foreground
        self.banks = nn.ModuleDict(
            {str(number): bank for number, bank in enumerate(banks) if bank is not None}
        )
        self._numbers = [None if bank is None else str(i) for i, bank in enumerate(banks)]

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``; higher is more anomalous."""
        features = self.features(images)
        count, channels, height, width = features.shape
        patches = to_patches(features).view(count, height * width, channels)
        banks = [None if number is None else self.banks[number] for number in self._numbers]
        scores = self.mixture.scores(patches, banks)
        kept = None if self.foreground is None else self.foreground(self.mixture.last(patches))
        maps: Tensor = self.maps(scores.view(count, 1, height, width), images, kept)
        return maps


class ScoreMaps(nn.Module):
    """Scores of patches to maps of the images' size.

    Args:
        root: Added to squared distances before their root is taken, so that what rounding leaves
            of a distance of 0 is not made a hundred times as large; None takes no root.
        spreading: Resizes and smooths; None to resize alone.
    """

    def __init__(self, root: float | None = None, spreading: Spreading | None = None) -> None:
        super().__init__()
        self._root, self.spreading = root, spreading

    def forward(self, scores: Tensor, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """``(N, 1, h, w)`` scores of ``(N, 3, H, W)`` images to ``(N, H, W)``.

        Args:
            scores: Of patches.
            images: Of which nothing but the size is looked at.
            kept: ``(N, h * w)``, 0 for patches that are to have a score of 0.
        """
        if self._root is not None:
            scores = (scores.clamp(min=0) + self._root).sqrt()
        if kept is not None:
            scores = scores * kept.view(scores.shape)
        if self.spreading is None:
            return upsampled(scores, images)
        maps: Tensor = self.spreading(scores[:, 0])
        return maps

    def flops(self) -> int:
        """Operations of smoothing one image."""
        return 0 if self.spreading is None else self.spreading.flops()


def upsampled(scores: Tensor, images: Tensor) -> Tensor:
    """``(N, 1, h, w)`` scores to maps of the images' size."""
    size = tuple(images.shape[2:])
    return F.interpolate(scores, size, mode="bilinear", align_corners=False)[:, 0]


def _refresh_squares(module: nn.Module, keys: object) -> None:
    if isinstance(module, NearestRows):
        module.squares.copy_(module._squares())
