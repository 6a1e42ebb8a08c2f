"""Anomalies made in image space: Perlin masks, foreign texture, cut & paste.

Runners train on them, and a validation split gets them where real ones are few (`add_synthetic`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
