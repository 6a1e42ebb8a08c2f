"""From a trial to a model folder that needs no autosearch, and predictions with such a folder.

Prediction is free of torch: numpy and onnxruntime, or OpenVINO, will do.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
