"""The one question that the dashboard's page asks, in the form in which Dash puts it."""

from __future__ import annotations

from typing import Any

STORES = ("listing", "chosen", "clock", "data", "seen")
"""What an answer fills, in this order: each the ``data`` of a component of that name."""

_ANSWER = "..{}..".format("...".join(f"{name}.data" for name in STORES))


def is_question(asked: Any) -> bool:
    """Whether a request has all that the answer needs, each of the right kind.

    Dash itself takes a request apart without a look, and any other one would end in a traceback.

    Args:
        asked: The request's JSON.
    """
    match asked:
        case {
            "output": output,
            "outputs": list(outputs),
            "inputs": [
                {"id": "tick", "property": "n_intervals"},
                {"id": "chosen", "property": "data"} as chosen,
            ],
            "state": [{"id": "seen", "property": "data"} as seen],
        }:
            pass
        case _:
            return False
    parts = [(part.get("id"), part.get("property")) for part in outputs if isinstance(part, dict)]
    return (
        output == _ANSWER
        and parts == [(name, "data") for name in STORES]
        and _are_names(asked.get("changedPropIds", []))
        and _are_names(chosen.get("value") or [], once=True)
        and _are_hashes(seen.get("value") or {})
    )


def _are_names(value: object, once: bool = False) -> bool:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return False
    return not once or len(set(value)) == len(value)


def _are_hashes(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(found, str) for found in value.values())
