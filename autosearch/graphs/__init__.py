"""A detector as one ONNX graph, what runs such a graph (onnxruntime, OpenVINO), how long it takes.

Running a graph is free of torch. Making one needs the packages of ``autosearch[export]``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
