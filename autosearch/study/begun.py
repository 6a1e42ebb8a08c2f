"""A study goes on as it was begun, even if a runner's defaults have changed since."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autosearch.contracts import TrialRecord
from autosearch.errors import Infeasible, StudyError
from autosearch.spec import Params

Canonical = Callable[[Params], Params]


def canonical_as_begun(records: Sequence[TrialRecord], canonical: Canonical) -> Canonical:
    """A runner's canonical form with the defaults of when a study was begun.

    Of parameters that its space does not name, the stored trials say which values they had.

    Args:
        records: The study's trials so far.
        canonical: `Runner.canonical` as it is now.

    Raises:
        StudyError: With these values, too, the runner makes something else of a stored trial than
            was built then.
    """
    stored = [record for record in records if record.canonical]
    before: Params = {}
    for record in stored:
        now, drawn = _form(canonical, record.params), record.params
        for name, value in record.canonical.items():
            if name not in drawn and (name not in now or now[name] != value):
                before[name] = value
        # What the runner did not know then stands for nothing.
        before.update({name: None for name in now if name not in {**record.canonical, **drawn}})
    if not before:
        return canonical

    def kept(params: Params) -> Params:
        return canonical({**before, **params})

    for record in stored:
        if (now := _form(kept, record.params)) != record.canonical:
            then = record.canonical
            names = [n for n in {**then, **now} if then.get(n) != now.get(n)]
            raise StudyError(
                f"trial {record.number} would be built with other values now than then: "
                f"{', '.join(f'{n} {now.get(n)}, {then.get(n)} then' for n in names)}; continue "
                "the study with the version that began it, or give a new study another --name"
            )
    return kept


def _form(canonical: Canonical, params: Params) -> Params:
    """The canonical form, empty if there is none."""
    try:
        return canonical(dict(params))
    except Infeasible:
        return {}
