"""Conformance suites: what every runner, backbone, objective, memory bank and layout must hold.

A test class that derives from a suite and gives it what its docstring asks for inherits all of its
checks, which pytest then finds and runs.
"""

import importlib.util

import lazy_loader

_find, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_PYTEST = importlib.util.find_spec("pytest") is not None

if _PYTEST:
    import pytest

    # Failing checks then show what they compared, in other packages as well.
    pytest.register_assert_rewrite(
        *(f"{__name__}.{suite}" for suite in ("backbones", "configurations", "layouts", "memory")),
        *(f"{__name__}.{suite}" for suite in ("objectives", "runners")),
    )


def __getattr__(name: str) -> object:
    if name in __all__ and not _PYTEST:
        raise ImportError(f"{__name__}.{name} needs pytest: pip install 'autosearch[testing]'")
    return _find(name)
