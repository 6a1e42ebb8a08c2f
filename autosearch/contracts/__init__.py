"""What the search and what it searches agree on: `Runner`, `Detector`, `Objective`, trials.

`registry` is the table of names: runners, objectives and spaces, of this package and of others.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
