"""Parts of the test split of which figures are kept: all of it, each anomaly type, each category.

A type stands beside all normal images; where there are several categories, beside those of its
own, since nobody would take a normal screw for a scratched bottle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autosearch.data import NORMAL, ImageSet, categories_of, prefixed
from autosearch.metrics import Floats, Truth, bootstrap
from autosearch.study.truth import truth_of


@dataclass(frozen=True)
class Subset:
    """Some images of the test split, their truth, and how often resamples hold them."""

    indices: NDArray[np.intp]
    types: tuple[str, ...]
    truth: Truth
    copies: Floats | None

    @classmethod
    def of(
        cls, images: ImageSet, copies: Floats, wanted: NDArray[np.bool_] | None = None
    ) -> Subset:
        """Those that are wanted, ``(N,)`` bool; None for all."""
        indices = np.arange(len(images)) if wanted is None else np.flatnonzero(wanted)
        types = tuple(images.types[i] for i in indices)
        groups = tuple(images.groups[i] for i in indices)
        varies = bootstrap.can_vary(types, groups, NORMAL)
        truth = truth_of(images, indices)
        return cls(indices, types, truth, copies[:, indices] if varies else None)


def strata_of(images: ImageSet, several: bool) -> tuple[str, ...]:
    """What images are drawn within: their types, those of normal ones by category, too."""
    if not several:
        return images.types
    owners = categories_of(images.groups)
    return tuple(
        prefixed(owner, kind) if kind == NORMAL else kind
        for owner, kind in zip(owners, images.types, strict=True)
    )


@dataclass(frozen=True)
class Subsets:
    """All of the test split, and its parts by name."""

    whole: Subset
    types: dict[str, Subset]
    categories: dict[str, Subset]

    @classmethod
    def of(cls, images: ImageSet, copies: Floats, several: bool) -> Subsets:
        """Those of a test split.

        Args:
            images: The split.
            copies: ``(S, N)``, how often resamples hold each image.
            several: Whether its images are of several categories.
        """
        kinds, normal = np.array(images.types), ~images.labels
        owners = np.array(categories_of(images.groups) if several else [""] * len(images))
        types = {}
        for kind in sorted(set(images.types) - {NORMAL}):
            own = kinds == kind
            beside = normal & np.isin(owners, owners[own])
            types[kind] = Subset.of(images, copies, own | beside)
        categories = {
            name: Subset.of(images, copies, owners == name)
            for name in (sorted(set(owners.tolist())) if several else ())
        }
        return cls(Subset.of(images, copies), types, categories)
