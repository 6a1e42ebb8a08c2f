"""Whether a validation split has what the figures that a spec asks for are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from autosearch.contracts import Objective
from autosearch.data import SearchData
from autosearch.errors import ConfigError, DataError
from autosearch.graphs import GRAPH_PACKAGES, needed
from autosearch.spec import StudySpec
from autosearch.study.truth import truth_of

_MAKE = "--set dataset.validation.synthetic.kind=both"


def named_figures(spec: StudySpec) -> Iterator[tuple[str, str]]:
    """Key of the spec and name of every figure that it asks for."""
    yield from (("objectives", name) for name in spec.objectives)
    yield from (("measures", name) for name in spec.measures)
    yield from (("constraints", bound.name) for bound in spec.parsed_constraints)


def check_packages(spec: StudySpec, known: Mapping[str, Objective]) -> None:
    """Refuse figures of the exported graph where it cannot be made or run.

    Args:
        spec: What is asked for.
        known: What can be measured, by name.

    Raises:
        ConfigError: Names the figure, and what to install.
    """
    if spec.resources.latency_threads is None:
        return
    for key, name in named_figures(spec):
        for package in GRAPH_PACKAGES if name in known and known[name].graph else ():
            try:
                needed(package)
            except ConfigError as error:
                allowed = f"a figure that needs no exported graph, or {error.allowed}"
                raise ConfigError(key, name, allowed) from None


def check_scorable(data: SearchData, spec: StudySpec, known: Mapping[str, Objective]) -> None:
    """Refuse figures that every trial would be without.

    Args:
        data: Train and validation, synthetic anomalies included.
        spec: What is asked for.
        known: What can be measured, by name.

    Raises:
        ConfigError: A figure is of pixels and no anomalous image of validation has a mask, or it
            is of anomalies that validation does not hold.
        DataError: Masks mark nothing that is left at the size at which maps are measured.
    """
    val = data.val
    for key, name in named_figures(spec):
        _check_figure(data, key, known[name])
    gap = truth_of(val).gap
    if gap is None or not (val.labels & val.marked).any():
        return
    dataset = spec.dataset
    first = val.paths[int((val.labels & val.marked).argmax())]
    size = f"at image_size {dataset.image_size} under mask_rule {dataset.mask_rule}"
    remedy = "set dataset.regions to source, raise dataset.image_size, or mend the masks"
    raise DataError(first, f"{gap} {size} (validation)", remedy)


def _check_figure(data: SearchData, key: str, figure: Objective) -> None:
    val, name, kind = data.val, figure.name, figure.anomalies
    chosen = val.labels
    if kind in ("synthetic", "both") and data.made is None and not val.synthetic.any():
        allowed = "another, since validation holds no synthetic anomaly"
        allowed = f"{allowed}; {_MAKE} makes some"
        raise ConfigError(key, name, allowed)
    if kind == "synthetic":
        return
    if kind in ("real", "both"):
        chosen = val.labels & ~val.synthetic
        if not chosen.any():
            allowed = "another, since validation holds no real anomaly"
            raise ConfigError(key, name, allowed)
    if figure.pixels and not (chosen & val.marked).any():
        which = "anomalous" if kind == "all" else "real anomalous"
        where = f"{data.info['name']}/{data.info['category']}"
        allowed = (
            f"image_auroc, image_ap or image_f1, since no {which} validation image of {where} "
            "has a mask"
        )
        if kind == "all":
            allowed += f"; or let synthetic anomalies give masks: {_MAKE}"
        raise ConfigError(key, name, allowed)
