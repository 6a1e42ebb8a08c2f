"""A space as Optuna has it."""

from __future__ import annotations

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from autosearch.spec import Parameter, Space


def distributions(space: Space) -> dict[str, BaseDistribution] | None:
    """What is drawn from, by name and in the order of names; None for a space with conditions."""
    if space.conditional:
        return None
    known = {parameter.name: _distribution(parameter) for parameter in space.parameters}
    return {name: known[name] for name in sorted(known) if not known[name].single()}


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.kind == "choice":
        return CategoricalDistribution(parameter.choices)
    if parameter.kind == "int":
        return IntDistribution(
            int(parameter.low),
            int(parameter.high),
            log=parameter.log,
            step=int(parameter.step or 1),
        )
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
