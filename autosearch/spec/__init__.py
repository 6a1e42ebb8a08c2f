"""What a person asks for: spaces, constraints and whole specs, read and checked.

A `StudySpec` is frozen; whoever is handed one need not ask again whether it is allowed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
