"""A search as it goes on: inputs, driver, samplers, one trial, and its test figures.

`StudyDriver` asks and tells; it knows Optuna, and neither Ray nor any runner.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
