"""Networks that features come from: subnets of supernets, timm models; weights and cost.

Everything is a `FeatureExtractor`; weights are found by `resolve`, nowhere else.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
