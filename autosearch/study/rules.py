"""Rules by which one of several trials is taken: from what is known of them to a score each.

Validation holds few defects, so the best figure is often that of a lucky trial. A rule is a
function of candidates alone and reads no disk, so that rules can be compared on the same trials.
Figures are used in their calibrated form where all candidates have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autosearch.errors import ConfigError
from autosearch.metrics import Floats
from autosearch.study.gower import distances

CALIBRATED = {"rwap": "rwap_calibrated", "ap": "ap_calibrated"}
"""Figures, and what stands for them wherever normal pixels are weighed to a stated prevalence."""

REAL = ("rwap_real", "rwap_calibrated", "rwap")
"""Figures of the real anomalies, of which the first that all candidates have is used."""

REAL_AP = ("ap_calibrated", "ap")
"""The same of AP."""

MADE, MADE_AP = "rwap_synthetic", "ap_synthetic"
"""Figures of the made ones."""

MULTIPLIED = {
    "synthetic": (REAL, (MADE,)),
    "balanced": (REAL, REAL_AP, (MADE,), (MADE_AP,)),
}
"""Rules that take a geometric mean, and its figures, each with what stands for it."""

OPTIONAL = frozenset({(MADE_AP,)})
"""Those of `MULTIPLIED` that are left out where trials lack them: earlier versions kept none."""

RANKED = (("rwap_calibrated", "rwap"), ("ap_calibrated", "ap"), ("image_auroc",), (MADE,))
"""Figures over whose ranks `ranks` averages, each with what stands for it in older trials."""

_ABOVE_ZERO = 1e-3
"""Added to figures, so that one of 0 does not make all that have it alike."""

_LENGTHS = (0.03, 0.1, 0.3, 1.0)
_NOISES = (0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.98)


@dataclass(frozen=True)
class Candidate:
    """What is known of one trial.

    Attributes:
        number: Of the trial.
        figures: Of validation, by name.
        prefer: The figure that decides by itself, which every candidate has.
        sign: 1 if that is better the higher, -1 if the lower.
        errors: Standard errors of figures over anomalous images, as far as they are known.
        draws: ``(S,)`` values of figures in draws of the anomalous images, the same for all.
        parameters: The canonical configuration.
    """

    number: int
    figures: Mapping[str, float]
    prefer: str = "rwap"
    sign: int = 1
    errors: Mapping[str, float] = field(default_factory=dict)
    draws: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    parameters: Mapping[str, object] = field(default_factory=dict)


Rule = Callable[[Sequence[Candidate]], Floats]
"""From N candidates to ``(N,)`` scores, the higher the better."""


def best(trials: Sequence[Candidate]) -> Floats:
    """The preferred figure."""
    return _values(trials, [trial.prefer for trial in trials])


def pessimistic(trials: Sequence[Candidate]) -> Floats:
    """The preferred figure less its standard error.

    One of which none is known is taken to have the mean of the others'; if all are, it is `best`.
    """
    name = decisive(trials)
    errors = np.array([trial.errors.get(name, np.nan) for trial in trials])
    known = errors[~np.isnan(errors)]
    usual = known.mean() if known.size else 0.0
    return _values(trials, [name] * len(trials)) - np.where(np.isnan(errors), usual, errors)


def synthetic(trials: Sequence[Candidate]) -> Floats:
    """Geometric mean of rwAP of the real and of the made anomalies.

    A factor that both kinds of anomalies make all figures smaller by changes nothing.

    Raises:
        ConfigError: Candidates lack one of them.
    """
    return _geometric_mean(trials, "synthetic")


def balanced(trials: Sequence[Candidate]) -> Floats:
    """Geometric mean of rwAP and AP of the real anomalies, and of both of the made ones.

    What finds small defects at the price of all others is not worth as much as it seems.

    Raises:
        ConfigError: Candidates lack one of them, but for AP of the made ones.
    """
    return _geometric_mean(trials, "balanced")


def multiplied(trials: Sequence[Candidate], rule: str) -> tuple[str, ...]:
    """The figures that `synthetic` or `balanced` multiplies; only those that all have."""
    found = (next((n for n in g if _all_have(trials, n)), None) for g in MULTIPLIED[rule])
    return tuple(name for name in found if name is not None)


def _geometric_mean(trials: Sequence[Candidate], rule: str) -> Floats:
    names = multiplied(trials, rule)
    for group in MULTIPLIED[rule]:
        if group not in OPTIONAL and not set(group) & set(names):
            allowed = f"another rule: trials have no {group[-1]}, which validation on real and "
            raise ConfigError("rule", rule, f"{allowed}made anomalies gives")
    figures = np.array([[trial.figures[name] for trial in trials] for name in names])
    return np.asarray(np.exp(np.log(figures + _ABOVE_ZERO).mean(axis=0)))


def ranks(trials: Sequence[Candidate]) -> Floats:
    """Mean of the ranks by those of `RANKED` that all candidates have.

    Raises:
        ConfigError: They have none of them.
    """
    names = ranked_by(trials)
    if not names:
        wanted = ", ".join(first for first, *_ in RANKED)
        raise ConfigError("rule", "ranks", f"another rule: trials have none of {wanted}")
    return _mean_rank(trials, names)


def smooth(trials: Sequence[Candidate]) -> Floats:
    """The preferred figure, averaged with that of similar configurations.

    It is the posterior mean of a Gaussian process over configurations with noise (Rasmussen and
    Williams, "Gaussian Processes for Machine Learning", 2006, Eq. 2.23). The covariance falls as
    ``exp(-d / length)`` with Gower's distance d; length and share of noise are those of a small
    grid under which the figures are likeliest.
    """
    values = _values(trials, [decisive(trials)] * len(trials))
    centre, spread = values.mean(), values.std()
    if len(trials) < 3 or spread == 0:
        return values
    configurations = tuple(
        tuple((name, type(value).__name__, value) for name, value in trial.parameters.items())
        for trial in trials
    )
    found: Floats = centre + spread * _posterior((values - centre) / spread, configurations)
    return found


RULES: dict[str, Rule] = {
    "best": best,
    "pessimistic": pessimistic,
    "synthetic": synthetic,
    "balanced": balanced,
    "ranks": ranks,
    "smooth": smooth,
}
"""Rules by name."""


def decisive(trials: Sequence[Candidate]) -> str:
    """Name of the preferred figure, in its calibrated form where all candidates have it."""
    prefer = trials[0].prefer
    better = CALIBRATED.get(prefer, prefer)
    return better if _all_have(trials, better) else prefer


def ranked_by(trials: Sequence[Candidate]) -> tuple[str, ...]:
    """Those of `RANKED` that all candidates have."""
    found = (next((n for n in names if _all_have(trials, n)), None) for names in RANKED)
    return tuple(name for name in found if name is not None)


def wins(rule: Rule, trials: Sequence[Candidate], place: int) -> float | None:
    """Share of the draws in which the candidate at a place has the highest score.

    In each draw figures of all candidates are what they are there, if all were drawn; where
    several share the highest score, each has a part of the win. A draw in which some figure is not
    defined is left out.

    Returns:
        A number in [0, 1]; None if nothing was drawn, or scores are the same in every draw.
    """
    names = sorted(set.intersection(*(set(trial.draws) for trial in trials)))
    if not names:
        return None
    values = np.array([[trial.draws[name] for name in names] for trial in trials], dtype=float)
    figures = [dict(trial.figures) for trial in trials]
    drawn = [replace(one, figures=own) for one, own in zip(trials, figures, strict=True)]
    table = []
    for draw in np.flatnonzero(~np.isnan(values).any(axis=(0, 1))).tolist():
        for own, row in zip(figures, values[:, :, draw].tolist(), strict=True):
            own.update(zip(names, row, strict=True))
        table.append(rule(drawn))
    if not table or (np.array(table) == table[0]).all():
        return None
    highest = np.array(table) >= np.max(table, axis=1, keepdims=True)
    return float((highest[:, place] / highest.sum(axis=1)).mean())


_Configurations = tuple[tuple[tuple[str, str, object], ...], ...]
"""Name, type and value of every parameter of each trial: types tell true from 1."""


@lru_cache(maxsize=4)
def _spectra(configurations: _Configurations) -> list[tuple[Floats, Floats]]:
    """Eigenvalues and eigenvectors of the covariance of each length; draws share them."""
    apart = distances([{name: value for name, _, value in one} for one in configurations])
    found = [np.linalg.eigh(np.exp(-apart / length)) for length in _LENGTHS]
    return [(powers, vectors) for powers, vectors in found]


def _posterior(values: Floats, configurations: _Configurations) -> Floats:
    """Posterior mean at N configurations with standardised values ``(N,)``."""
    likeliest, found = -np.inf, values
    for powers, vectors in _spectra(configurations):
        turned = vectors.T @ values
        for noise in _NOISES:
            signal = (1 - noise) * np.maximum(powers, 0)
            variance = signal + noise
            # Of the likelihood in which the variance as a whole is the likeliest one.
            fit = len(values) * np.log((turned**2 / variance).mean()) + np.log(variance).sum()
            if -fit > likeliest:
                likeliest, found = -fit, vectors @ (signal / variance * turned)
    return found


def _values(trials: Sequence[Candidate], names: Sequence[str]) -> Floats:
    """A figure of each, turned so that higher is better."""
    return np.array(
        [trial.sign * trial.figures[name] for trial, name in zip(trials, names, strict=True)],
        dtype=np.float64,
    )


def _all_have(trials: Sequence[Candidate], name: str) -> bool:
    return all(name in trial.figures for trial in trials)


def _mean_rank(trials: Sequence[Candidate], names: Sequence[str]) -> Floats:
    """Mean over figures of the rank of each candidate, 1 for the lowest; ties share theirs."""
    each = [_ranks([trial.figures[name] for trial in trials]) for name in names]
    mean: Floats = np.mean(each, axis=0)
    return mean


def _ranks(values: Sequence[float]) -> Floats:
    _, group, counts = np.unique(np.array(values), return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[group], dtype=np.float64)
