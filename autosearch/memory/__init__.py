"""Memory banks: exact nearest neighbours of patches, with torch or FAISS, and coresets.

A bank is made by `make_memory_bank`; which backend answers makes no difference to the answer.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
