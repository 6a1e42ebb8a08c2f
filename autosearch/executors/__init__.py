"""Where trials run: in this process, or as Ray Tune trials on this machine or a cluster.

An `Executor` carries configurations from a driver to workers and outcomes back.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
