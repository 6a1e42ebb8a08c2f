"""The parameters of a flow's training."""

from __future__ import annotations

from autosearch.contracts import ParameterInfo
from autosearch.spec import Params

from .. import training
from ..parameters import settings
from ..training import Schedule

ALL_IMAGES = 1_000_000
"""So many images an epoch that it sees all of them."""

WEIGHT_DECAY = ParameterInfo(
    1e-5, "share of the weights that is added to their gradients", low=0, high=0.1
)


def schedule_parameters(default: Schedule) -> dict[str, ParameterInfo]:
    """Those of a `Schedule` but for mixed precision, in which log-determinants would be lost."""
    known = training.schedule_parameters(default)
    return {name: info for name, info in known.items() if name != "mixed_precision"}


def schedule_of(full: Params) -> Schedule:
    """What a configuration says that names every parameter."""
    return settings(Schedule, full, mixed_precision=False)
