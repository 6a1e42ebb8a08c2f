"""The front door: what the commands do, as functions and objects for Python.

Nothing here prints, and what is wrong with an input is raised as `autosearch.errors` says.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
