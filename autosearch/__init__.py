"""Search hyperparameters and architectures for industrial visual anomaly segmentation.

`search` starts a search, `open_study` opens one, `Predictor` runs an exported model; the package
`autosearch.api` has the rest of the front door. Nothing heavy is loaded before it is used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
