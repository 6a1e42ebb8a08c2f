"""The folder of a study and what is kept in it, or in a database in its place.

Written whole or not at all, and checked when it is read, for it may come from anywhere.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
