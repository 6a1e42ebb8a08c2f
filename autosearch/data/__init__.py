"""Images, ground truth and splits: from files on disk to read-only arrays.

Also what is wrong with a dataset (`check_dataset`), and images with their maps as pictures.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
