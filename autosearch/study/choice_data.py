"""What is kept of a trial so that a choice can ask how sure it is: ``choice.npz``, at most 64 kB.

An archive of arrays (NumPy's ``.npz``, no pickles), all of the validation split:

- ``seed``: of what was drawn; trials of one seed met the same draws;
- ``draws.NAME``: ``(200,)`` values of a figure in draws of the anomalous images, with replacement
  within their types; normal images stay. Types with a single image, or group of images, are drawn
  together: by themselves they would be in every draw once;
- ``without.NAME``: ``(K,)`` values without one anomalous image in turn, or, beyond 128 of them,
  without one of 128 blocks of equal size: the jackknife of `autosearch.metrics.rwap_error`;
- ``names.real``, ``types.real``: ``(K,)`` text, path and type of the first image of each block;
  ``names.made``, ``types.made``, those of the ones that were made for validation;
- ``maps``: ``(n, h, w)`` uint8, area means of anomaly maps between ``low`` and ``high``, ``(n,)``;
  ``shown``, ``(n,)``, their places in the split: up to 16 anomalous images and as many normal
  ones, spread evenly; the longer side has at most 32 cells;
- ``scores.normal``, ``scores.real``, ``scores.made``: ``(n,)`` float32, image scores that rise, of
  the kinds that there are among the split's images; of more than `MOST_SCORES` that many, spread
  evenly, the least and the greatest among them. Earlier versions kept none.

Figures are ``image_auroc``; ``rwap``, ``ap``, ``rwap_calibrated`` and ``ap_calibrated`` where some
image has a mask; ``rwap_real``, ``rwap_synthetic``, ``ap_synthetic`` and ``rwap_mixed`` where
there are real and made anomalies, those of made ones also where there are no others. Scores are
sorted into bins (`autosearch.metrics.bootstrap.Histograms`), which is exact up to 256 different
scores of anomalous pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.contracts import Scored, derived_seed
from autosearch.data import ImageSet, SearchData
from autosearch.metrics import Floats, Truth, bootstrap
from autosearch.storage import CHOICE as CHOICE

NUMBER = 200
"""Draws."""

MOST_BYTES = 64 << 10
"""Bound on the file."""

MOST_SCORES = 512
"""Bound on image scores of one kind."""

_BLOCKS, _EDGES = 128, 256
_MAPS, _CELLS = 16, 32
_NAME, _KIND = 48, 24


@dataclass(frozen=True, eq=False)
class Draws:
    """Which images figures are computed without, and which were drawn: the same for all trials.

    Attributes:
        seed: Of the draws, from the data alone.
        real: ``(1 + K + 200, N)`` copies of each validation image: all, without each block of
            anomalous images, drawn.
        made: The same of the normal images of validation and the made anomalies; None where there
            are none.
        about: The arrays of names and types, and ``shown``.
    """

    seed: int
    real: Floats
    made: Floats | None
    about: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, data: SearchData) -> Draws:
        """Draw from the anomalous images of validation."""
        val = data.val
        seed = derived_seed(data.info.get("sha256", ""), "choice")
        real = np.flatnonzero(val.labels)
        about = {**_named("real", val, real), "shown": _shown(val)}
        made = None
        if data.made is not None:
            normals = int((~val.labels).sum())
            places = normals + np.arange(len(data.made))
            made = _copies(normals + len(data.made), places, data.made, seed)
            about |= _named("made", data.made, np.arange(len(data.made)))
        elif 0 < val.synthetic.sum() < val.labels.sum():
            kept = val.select(val.synthetic | ~val.labels)
            places = np.flatnonzero(kept.labels)
            made = _copies(len(kept), places, kept.select(kept.labels), seed)
            about |= _named("made", kept, places)
        copies = _copies(len(val), real, val.select(val.labels), seed) if real.size else None
        whole = np.ones((1, len(val))) if copies is None else copies
        return cls(seed, whole, made, about)

    def kept(self, scored: Scored) -> bytes:
        """The archive of a trial.

        Args:
            scored: All that is known of it.
        """
        arrays: dict[str, NDArray[Any]] = {"seed": np.array(self.seed, np.uint32), **self.about}
        if len(self.real) > 1:
            for name, values in self._figures(scored).items():
                if np.isnan(values).all():
                    continue
                arrays[f"draws.{name}"] = values[-NUMBER:].astype(np.float32)
                if len(values) > NUMBER:
                    arrays[f"without.{name}"] = values[1:-NUMBER].astype(np.float32)
        arrays |= {**_small(scored.maps[self.about["shown"]]), **_ordered(scored)}
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        return content.getvalue()

    def _figures(self, scored: Scored) -> dict[str, Floats]:
        """By name ``(1 + K + 200,)`` values, of the mixed figure ``(200,)`` of the draws."""
        truth, labels = scored.truth, scored.truth.labels
        found = {"image_auroc": bootstrap.image_auroc(scored.images, labels, self.real)}
        if truth.gap is None:
            pixels = _metrics(scored.maps, truth, self.real, scored.prevalence)
            names = ("rwap", "ap", "rwap_calibrated", "ap_calibrated")
            found |= {name: pixels[name] for name in names}
        if self.made is None:
            made_alone = scored.synthetic is not None and (scored.synthetic | ~labels).all()
            if made_alone and truth.gap is None:
                found |= {f"{name}_synthetic": found[name] for name in ("rwap", "ap")}
            return found
        if scored.beside is not None:
            maps = np.concatenate([scored.maps[~labels], scored.beside.maps])
            made = _metrics(maps, scored.beside.truth, self.made, scored.prevalence)
            real = found
        else:
            own = np.zeros_like(labels) if scored.synthetic is None else scored.synthetic
            made, real = (
                _metrics(scored.maps[chosen], truth.select(chosen), copies, scored.prevalence)
                for chosen, copies in ((own | ~labels, self.made), (~own, self.real[:, ~own]))
            )
            # Without a block of made ones it is what it is.
            same = (self.real[:, ~own] == 1).all(axis=1)
            same[0] = same[-NUMBER:] = False
            real = {name: np.where(same, np.nan, values) for name, values in real.items()}
        found |= {"rwap_synthetic": made["rwap"], "ap_synthetic": made["ap"]}
        if "rwap" in real:
            found["rwap_real"] = real["rwap"]
            both = (kind["rwap_calibrated"][-NUMBER:] for kind in (real, made))
            found["rwap_mixed"] = sum(both, np.zeros(NUMBER)) / 2
        return found


def errors_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Standard errors of figures over anomalous images, where there are several.

    That of the jackknife, or of the draws where nothing was left out.
    """
    found = {}
    without = _part(arrays, "without.")
    for name, drawn in draws_of(arrays).items():
        values = without.get(name, drawn)
        known = values[~np.isnan(values)].astype(np.float64)
        if known.size > 1:
            scale = known.size - 1 if name in without else 1
            found[name] = float(np.sqrt(scale * known.var()))
    return found


def draws_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Values of figures in each draw."""
    return _part(arrays, "draws.")


def scores_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Image scores by kind: ``normal``, ``real`` and ``made``."""
    return _part(arrays, "scores.")


def _part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): values
        for name, values in arrays.items()
        if name.startswith(prefix)
    }


def _copies(number: int, places: NDArray[np.intp], images: ImageSet, seed: int) -> Floats:
    """``(1 + K + 200, number)`` copies, of which those at some places vary.

    Args:
        number: Images in all.
        places: ``(n,)``, of the anomalous ones.
        images: The anomalous ones.
        seed: Of the draws.
    """
    groups_of: dict[str, set[str]] = {}
    for kind, group in zip(images.types, images.groups, strict=True):
        groups_of.setdefault(kind, set()).add(group)
    kinds = [kind if len(groups_of[kind]) > 1 else "" for kind in images.types]
    drawn = np.ones((NUMBER, number))
    drawn[:, places] = bootstrap.draw_copies(kinds, images.groups, NUMBER, seed)
    blocks = _blocks(len(places))
    without = np.ones((blocks.max(initial=-1) + 1, number))
    without[blocks, places] = 0
    return np.concatenate([np.ones((1, number)), without, drawn])


def _blocks(number: int) -> NDArray[np.intp]:
    """Block of each of some images: one each, or 128 of equal size up to one."""
    return np.arange(number) * min(number, _BLOCKS) // max(1, number)


def _named(kind: str, images: ImageSet, places: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """Names and types of the first image of each block."""
    firsts = places[np.unique(_blocks(len(places)), return_index=True)[1]]
    return {
        f"names.{kind}": _text((images.paths[i] for i in firsts.tolist()), _NAME),
        f"types.{kind}": _text((images.types[i] for i in firsts.tolist()), _KIND),
    }


def _text(lines: Iterable[str], most: int) -> NDArray[np.bytes_]:
    """UTF-8, the last so many bytes of each."""
    return np.array([line.encode()[-most:] for line in lines], dtype=f"S{most}")


def _shown(val: ImageSet) -> NDArray[np.int32]:
    """Places of the images whose maps are kept."""
    found = []
    for chosen in (val.labels, ~val.labels):
        places = np.flatnonzero(chosen)
        number = min(_MAPS, len(places))
        found.append(places[np.arange(number) * len(places) // max(1, number)])
    return np.sort(np.concatenate(found)).astype(np.int32)


def _small(maps: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Maps in few cells of 256 steps."""
    # Whoever only reads what was kept must not load torch.
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    height, width = maps.shape[1:]
    scale = min(1.0, _CELLS / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    means = adaptive_avg_pool2d(torch.from_numpy(maps)[:, None], size)[:, 0].numpy()
    low, high = means.min(axis=(1, 2)), means.max(axis=(1, 2))
    span = np.where(high > low, high - low, 1)[:, None, None]
    steps = np.rint((means - low[:, None, None]) / span * 255).astype(np.uint8)
    return {"maps": steps, "low": low, "high": high}


def _ordered(scored: Scored) -> dict[str, NDArray[np.float32]]:
    """Image scores by kind, rising, and at most so many of each."""
    labels = scored.truth.labels
    made = np.zeros_like(labels) if scored.synthetic is None else scored.synthetic
    found = {}
    for name, chosen in (("normal", ~labels), ("real", labels & ~made), ("made", labels & made)):
        if number := int(chosen.sum()):
            places = np.linspace(0, number - 1, min(number, MOST_SCORES)).round().astype(int)
            found[f"scores.{name}"] = np.sort(scored.images[chosen])[places].astype(np.float32)
    return found


def _metrics(
    maps: NDArray[np.float32], truth: Truth, copies: Floats, prevalence: float
) -> dict[str, Floats]:
    histograms = bootstrap.Histograms.of(maps, truth, truth.types, _EDGES)
    return histograms.metrics(copies, prevalence)
