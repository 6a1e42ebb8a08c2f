"""Parameters of a memory bank, and the form of them in which nothing is without effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autosearch.contracts import ParameterInfo, with_defaults
from autosearch.errors import Infeasible
from autosearch.memory import make_memory_bank
from autosearch.spec import Params

from .augmentation import KEY, PARAMETER

PARAMETERS = {
    "coreset_ratio": ParameterInfo(
        1.0, "share of the training patches that the memory bank keeps", low=1e-4, high=1
    ),
    "coreset_method": ParameterInfo(
        "random", "how they are chosen", choices=("random", "kcenter")
    ),
    "coreset_pool": ParameterInfo(
        50_000, "patches drawn at random that kcenter chooses from", low=100, high=10_000_000
    ),
    "num_neighbors": ParameterInfo(
        1, "neighbours whose mean squared distance is the score", low=1, high=50
    ),
    "window": ParameterInfo(
        None,
        "cells of the patch grid within which a patch is compared; null: everywhere",
        choices=(None, 0, 1, 2, 3, 4, 6),
    ),
    "rows_per_place": ParameterInfo(
        0, "with a window, most patches kept of a cell; 0: all", low=0, high=1000
    ),
    "neighbour_images": ParameterInfo(
        None,
        "most alike normal images that an image is compared with; null: all",
        choices=(None, 1, 2, 5, 10, 20, 50),
    ),
    "metric": ParameterInfo(
        "euclidean",
        "cosine: patches are scaled to unit length, with `fusion: levels` those of each level",
        choices=("euclidean", "cosine"),
    ),
    "fusion": ParameterInfo(
        "concat",
        "levels: a bank for each extracted map, their distances scaled alike and averaged",
        choices=("concat", "levels"),
    ),
    KEY: PARAMETER,
}
"""Parameters of the bank, the same for all runners that have one."""

WEIGHT = ParameterInfo(
    1.0, "with `fusion: levels`, what the map counts in the mean", low=0, high=4
)


@dataclass(frozen=True)
class BankSettings:
    """How the memory bank is made and searched.

    Attributes:
        backend: Of a bank without windows.
        coreset_ratio: Share of all patches that is kept, where there is no window.
        coreset_method: How it is, or with a window the rows of a place are, chosen.
        coreset_pool: What ``kcenter`` chooses from; None for everything.
        num_neighbors: Neighbours whose mean squared distance is the score.
        window: Radius in cells, None for no window.
        rows_per_place: Most rows of a place, None for all.
        neighbour_images: Images that one is compared with, None for all.
        cosine: Whether vectors are scaled to unit length.
        weights: Of each map where every one has a bank; empty where all share one.
        augment: What images are added again as, None for nothing.
    """

    backend: str
    coreset_ratio: float
    coreset_method: str
    coreset_pool: int | None
    num_neighbors: int
    window: int | None = None
    rows_per_place: int | None = None
    neighbour_images: int | None = None
    cosine: bool = False
    weights: tuple[float, ...] = ()
    augment: str | None = None

    @classmethod
    def of(cls, canonical: Params, backend: str, extracted: Sequence[str] = ()) -> BankSettings:
        """Settings of a canonical configuration.

        Args:
            canonical: The configuration.
            backend: A memory backend.
            extracted: Groups of parameters, such as ``stage1``, of the extracted maps in order.
        """
        full = with_defaults(canonical, PARAMETERS)

        def count(name: str) -> int | None:
            return None if full[name] is None else int(full[name] or 0)

        weights = [canonical.get(f"{group}.weight", WEIGHT.default) for group in extracted]
        return cls(
            backend,
            float(full["coreset_ratio"] or 0),
            str(full["coreset_method"]),
            # Studies older than the pool chose from all patches, and do not name it.
            None if canonical.get("coreset_pool") is None else int(canonical["coreset_pool"] or 0),
            int(full["num_neighbors"] or 0),
            count("window"),
            count("rows_per_place") or None,
            count("neighbour_images"),
            full["metric"] == "cosine",
            tuple(float(w or 0) for w in weights) if full["fusion"] == "levels" else (),
            None if full[KEY] is None else str(full[KEY]),
        )


def check_backend(backend: str) -> None:
    """Refuse a memory backend that does not work on this machine.

    Raises:
        ConfigError: Names the backend and how to install it.
    """
    if backend != "auto":
        make_memory_bank(backend, 1, "cuda" if backend == "faiss-gpu" else "cpu")


def canonical_bank(params: Params, extracted: Sequence[str] = ()) -> Params:
    """The bank's part of a canonical configuration.

    There is no method where everything is kept, no share of all patches beside a window, and
    nothing of a part that is not in use: so configurations are what they were before it was known.

    Args:
        params: A configuration.
        extracted: Groups of parameters, such as ``stage1``, of the extracted maps in order.

    Raises:
        Infeasible: All weights are 0.
    """
    full = with_defaults(params, PARAMETERS)
    window, images = full["window"], full["neighbour_images"]
    kept: Params = {}
    if window is None:
        kept["coreset_ratio"] = full["coreset_ratio"]
        thinned = full["coreset_ratio"] != 1
    else:
        # Of images that are to be compared whole, no place is left out.
        thinned = bool(full["rows_per_place"]) and images is None
        kept |= {"window": window}
        kept |= {"rows_per_place": full["rows_per_place"]} if thinned else {}
    if thinned:
        kept["coreset_method"] = full["coreset_method"]
        if full["coreset_method"] == "kcenter" and full["coreset_pool"] is not None:
            kept["coreset_pool"] = full["coreset_pool"]
    kept["num_neighbors"] = full["num_neighbors"]
    kept |= {"neighbour_images": images} if images is not None else {}
    kept |= {"metric": "cosine"} if full["metric"] == "cosine" else {}
    kept |= {KEY: full[KEY]} if full[KEY] is not None else {}
    if full["fusion"] == "levels" and len(extracted) > 1:
        names = [f"{group}.weight" for group in extracted]
        weights = {name: params.get(name, WEIGHT.default) for name in names}
        if not any(weights.values()):
            raise Infeasible("weight is 0 for all that is extracted: nothing is scored")
        kept |= {"fusion": "levels", **weights}
    return kept
