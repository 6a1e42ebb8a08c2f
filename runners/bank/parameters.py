"""Parameters of a memory bank, and the form of them in which nothing is without effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from autosearch.backbones import Grid, Precision
from autosearch.contracts import ParameterInfo, with_defaults
from autosearch.errors import Infeasible
from autosearch.memory import make_memory_bank
from autosearch.spec import LARGEST, SMALLEST, Params, Value

from .augmentation import KEY, PARAMETER

PARAMETERS = {
    "coreset_ratio": ParameterInfo(
        1.0, "share of the training patches that the memory bank keeps", low=1e-4, high=1
    ),
    "bank_rows": ParameterInfo(
        None,
        "how many it keeps, whatever their number; null: coreset_ratio",
        low=1,
        high=10_000_000,
        whole=True,
    ),
    "coreset_method": ParameterInfo(
        "kcenter",
        "how they are chosen; thinning: those that lie close together are dropped by chance",
        choices=("random", "kcenter", "thinning"),
    ),
    "coreset_pool": ParameterInfo(
        50_000,
        "patches drawn at random that kcenter and thinning choose from",
        low=100,
        high=10_000_000,
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
        choices=(None, 1, 2, 5, 10, 20, 50, 150, 900),
    ),
    "likeness": ParameterInfo(
        "pooled",
        "with neighbour_images, what says how alike images are: the mean of the last map, or the "
        "angle between class tokens",
        choices=("pooled", "class_token"),
    ),
    "metric": ParameterInfo(
        "euclidean",
        "cosine: patches are scaled to unit length, with `fusion: levels` those of each level",
        choices=("euclidean", "cosine"),
    ),
    "fusion": ParameterInfo(
        "concat",
        "levels: a bank for each extracted map, their distances scaled alike and averaged; mean: "
        "averaged as they are",
        choices=("concat", "levels", "mean"),
    ),
    KEY: PARAMETER,
    "image_size": ParameterInfo(
        None,
        "images are made smaller for the network, to as many pixels as a square of this side has, "
        "never larger; null: dataset.image_size",
        low=SMALLEST,
        high=LARGEST,
        whole=True,
    ),
    "grid": ParameterInfo(
        "finest",
        "extracted map whose cells are the patches; others are resized to it",
        choices=("finest", "middle", "coarsest"),
    ),
    "level_scale": ParameterInfo(
        "none",
        "unit: extracted maps are scaled to the same total variance, times their weight",
        choices=("none", "unit"),
    ),
    "whitening": ParameterInfo(
        0.0,
        "power to which principal axes of an extracted map are divided by their variance; 0: not",
        low=0,
        high=1,
    ),
    "components": ParameterInfo(
        None,
        "principal components that are compared; below 1 the share of variance that they have; "
        "null: all numbers of a patch",
        low=0.01,
        high=4096,
    ),
    "position_weight": ParameterInfo(
        0.0,
        "places are compared, too: a whole image apart counts as this times the spread of patches",
        low=0,
        high=10,
    ),
    "distance": ParameterInfo(
        "squared",
        "root: scores are distances, before they are resized and smoothed; euclidean: those of "
        "each bank are, before they are averaged",
        choices=("squared", "root", "euclidean"),
    ),
    "smoothing": ParameterInfo(
        0.0, "sigma in pixels of the input of a Gaussian over the map; 0: none", low=0, high=50
    ),
    "top_share": ParameterInfo(
        None,
        "share of the highest pixels whose mean is an image's score; null: the highest alone",
        low=1e-5,
        high=0.5,
    ),
    "image_score": ParameterInfo(
        "pixels",
        "reweighted: each map times PatchCore's weight of its image",
        choices=("pixels", "reweighted"),
    ),
    "reweighting_neighbours": ParameterInfo(
        9,
        "with `image_score: reweighted`, rows of the bank that weigh",
        low=2,
        high=50,
    ),
    "foreground": ParameterInfo(
        "none",
        "components: only patches whose first principal component is above a threshold are kept, "
        "others score 0; for objects on a background",
        choices=("none", "components"),
    ),
    "foreground_threshold": ParameterInfo(
        10.0,
        "with `foreground: components`, that threshold, in the unit of the last extracted map",
        low=0,
        high=1000,
    ),
    "precision": ParameterInfo(
        "float32",
        "type that the network's products are computed in; distances and exports stay float32",
        choices=get_args(Precision),
    ),
    "train_images": ParameterInfo(
        None,
        "most training images that a bank is made from, drawn at random; null: all",
        low=1,
        high=10_000_000,
        whole=True,
    ),
}
"""Parameters of the bank, the same for all runners that have one."""

WEIGHT = ParameterInfo(
    1.0,
    "with `fusion: levels`, `mean` or `level_scale: unit`, what the map counts in the distance",
    low=0,
    high=4,
)


_BANKS, _CHOOSING = ("levels", "mean"), ("kcenter", "thinning")
"""Fusions with a bank for each map; methods that choose rows by what they are."""

_GRIDS: dict[str, Grid] = {name: name for name in get_args(Grid)}
_PRECISIONS: dict[str, Precision] = {name: name for name in get_args(Precision)}

_PLAIN = (
    "image_size",
    "grid",
    "whitening",
    "components",
    "position_weight",
    "distance",
    "smoothing",
    "top_share",
    "precision",
)
"""Parameters that stand in a canonical configuration where they are not the default."""


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
        rows: Patches that are kept instead of a share, None for the share.
        image_size: Side of the square with as many pixels as the network's input, None for the
            size of the images.
        grid: Which extracted map's cells are the patches.
        level_scale: What the squared distance of each map counts, at equal variance; empty where
            they are not scaled.
        whitening: Power of the variances.
        components: Number or, below 1, share of the variance; None for all.
        position: Weight of places.
        root: Whether distances are no longer squared.
        smoothing: Standard deviation in pixels.
        top_share: Of an image's pixels, None for the highest.
        reweighting: Rows of the bank that weigh the score of an image, None for no weight.
        train_images: Most images that the bank is made from, None for all.
        class_token: Whether the class token says how alike images are.
        scaled: Whether distances of maps that have a bank each are scaled alike.
        euclidean: Whether those of each bank are no longer squared.
        foreground: Threshold of the first principal component; None where all patches count.
        precision: Type that the network's products are computed in.
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
    rows: int | None = None
    image_size: int | None = None
    grid: Grid = "finest"
    level_scale: tuple[float, ...] = ()
    whitening: float = 0.0
    components: float | None = None
    position: float = 0.0
    root: bool = False
    smoothing: float = 0.0
    top_share: float | None = None
    reweighting: int | None = None
    train_images: int | None = None
    class_token: bool = False
    scaled: bool = True
    euclidean: bool = False
    foreground: float | None = None
    precision: Precision = "float32"

    @property
    def choosing(self) -> bool:
        """Whether rows are chosen by what they are, among more than are kept."""
        return self.coreset_method in _CHOOSING

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

        def share(name: str) -> float | None:
            return None if full[name] is None else float(full[name] or 0)

        weights = tuple(float(_weight(canonical, group) or 0) for group in extracted)
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
            weights if full["fusion"] in _BANKS else (),
            None if full[KEY] is None else str(full[KEY]),
            count("bank_rows"),
            count("image_size"),
            _GRIDS[str(full["grid"])],
            weights if full["level_scale"] == "unit" else (),
            float(full["whitening"] or 0),
            share("components"),
            float(full["position_weight"] or 0),
            full["distance"] == "root",
            float(full["smoothing"] or 0),
            share("top_share"),
            count("reweighting_neighbours") if full["image_score"] == "reweighted" else None,
            count("train_images"),
            full["likeness"] == "class_token",
            full["fusion"] != "mean",
            full["distance"] == "euclidean",
            share("foreground_threshold") if full["foreground"] == "components" else None,
            _PRECISIONS[str(full["precision"])],
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
        Infeasible: All weights are 0, images are to be weighed by more than one bank, or parts
            do not go together.
    """
    full = with_defaults(params, PARAMETERS)
    window, images = full["window"], full["neighbour_images"]
    kept: Params = {}
    if window is None and full["bank_rows"] is not None:
        kept["bank_rows"], thinned = full["bank_rows"], True
    elif window is None:
        kept["coreset_ratio"] = full["coreset_ratio"]
        thinned = full["coreset_ratio"] != 1
    else:
        # Of images that are to be compared whole, no place is left out.
        thinned = bool(full["rows_per_place"]) and images is None
        kept |= {"window": window}
        kept |= {"rows_per_place": full["rows_per_place"]} if thinned else {}
    if thinned:
        kept["coreset_method"] = full["coreset_method"]
        if full["coreset_method"] == "thinning" and window is not None:
            raise Infeasible("coreset_method thinning needs a bank without a window")
        if full["coreset_method"] in _CHOOSING and full["coreset_pool"] is not None:
            kept["coreset_pool"] = full["coreset_pool"]
    kept["num_neighbors"] = full["num_neighbors"]
    kept |= {"neighbour_images": images} if images is not None else {}
    if images is not None and full["likeness"] == "class_token":
        kept["likeness"] = "class_token"
    kept |= {"metric": "cosine"} if full["metric"] == "cosine" else {}
    # Of one map alone there is nothing to weigh, and nothing to choose a grid from.
    levels = full["fusion"] in _BANKS and len(extracted) > 1
    scaled = full["level_scale"] == "unit" and len(extracted) > 1 and not levels
    unused = {"position_weight"} if window == 0 else set()
    unused |= {"grid"} if len(extracted) == 1 else set()
    for name in (KEY, *_PLAIN):
        if full[name] is not None and full[name] != PARAMETERS[name].default:
            kept |= {} if name in unused else {name: full[name]}
    if levels or scaled:
        weights = {f"{group}.weight": _weight(params, group) for group in extracted}
        if not any(weights.values()):
            raise Infeasible("weight is 0 for all that is extracted: nothing is scored")
        kept |= {"fusion": full["fusion"]} if levels else {"level_scale": "unit"}
        kept |= weights
    if full["image_score"] == "reweighted":
        if levels or window is not None or images is not None:
            raise Infeasible(
                "image_score reweighted needs one bank that all patches are compared with: "
                "no window, no neighbour_images, fusion concat"
            )
        kept["image_score"] = "reweighted"
        kept["reweighting_neighbours"] = full["reweighting_neighbours"]
    if full["foreground"] == "components":
        if full["image_score"] == "reweighted":
            raise Infeasible("image_score reweighted knows of no foreground: foreground none")
        kept |= {name: full[name] for name in ("foreground", "foreground_threshold")}
    return kept | ({} if full["train_images"] is None else {"train_images": full["train_images"]})


def _weight(params: Params, group: str) -> Value:
    return params.get(f"{group}.weight", WEIGHT.default)
