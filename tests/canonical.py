"""What holds for canonical forms where it is known which parameters have no effect."""

from autosearch.contracts.detector import Runner
from autosearch.spec.space import Params


def check_without_effect(runner: Runner, base: Params, without_effect: Params) -> None:
    """Changes that have no effect beside others do not remain in the canonical form.

    Args:
        runner: Whose.
        base: A feasible configuration.
        without_effect: What to change in it.
    """
    canonical = runner.canonical(base)
    assert runner.canonical(base | without_effect) == canonical
    assert runner.canonical(canonical) == canonical
