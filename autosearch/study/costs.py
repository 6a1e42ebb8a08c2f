"""What trials cost in all, where a cost that they are compared by leaves a part out.

A memory bank's search is often a hundred times the work of the network before it, so what is cheap
by ``gflops`` need not be cheap to run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autosearch.contracts import TrialRecord

_NETWORK, _SEARCH, _TOTAL = "gflops", "search_gflops", "total_gflops"


def compared(objectives: Iterable[str]) -> list[str]:
    """Names of what trials are compared by: objectives, and beside ``gflops`` ``total_gflops``."""
    names = list(objectives)
    behind = names.index(_NETWORK) + 1 if _NETWORK in names else 0
    return names if not behind or _TOTAL in names else [*names[:behind], _TOTAL, *names[behind:]]


def figure_of(record: TrialRecord, name: str) -> float | None:
    """An objective or measured figure of a trial; None if it has none.

    Earlier versions measured the parts of ``total_gflops`` alone, whose sum it is.
    """
    known = {**record.measured, **record.values}
    if name == _TOTAL and name not in known and _NETWORK in known and _SEARCH in known:
        return known[_NETWORK] + known[_SEARCH]
    return known.get(name)


def order_warning(front: Sequence[TrialRecord], objectives: Sequence[str]) -> str | None:
    """One line if ``gflops`` and ``total_gflops`` order a front's trials differently.

    Args:
        front: Trials with values.
        objectives: Names of the study's; where ``gflops`` is none of them, nothing is said.

    Returns:
        It names the two trials that are furthest apart the wrong way round; None if none are.
    """
    if _NETWORK not in objectives:
        return None
    costs = [
        (record.values[_NETWORK], total, record.number)
        for record in front
        if (total := figure_of(record, _TOTAL)) is not None
    ]
    found = _reversed(sorted(costs))
    if found is None:
        return None
    (few, much, first), (many, little, second) = found
    instead = ", ".join(_TOTAL if name == _NETWORK else name for name in objectives)
    return (
        f"gflops leave out the nearest-neighbour search, and order the front otherwise than "
        f"total_gflops do: trial {first} has fewer than trial {second} ({few:.3g} and "
        f"{many:.3g}), but with the search {much:.3g} and {little:.3g}. To search by all of it: "
        f"objectives=[{instead}]"
    )


_Cost = tuple[float, float, int]


def _reversed(costs: Sequence[_Cost]) -> tuple[_Cost, _Cost] | None:
    """Of costs in rising order the two whose second parts fall furthest."""
    found, furthest = None, 0.0
    dearest = costs[0] if costs else None
    for one in costs:
        if dearest is None or one[1] >= dearest[1]:
            dearest = one
        elif dearest[1] - one[1] > furthest:
            found, furthest = (dearest, one), dearest[1] - one[1]
    return found
