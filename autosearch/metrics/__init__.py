"""Figures of merit: metrics, thresholds, intervals, rank correlation, Pareto fronts.

Pure numpy; exact in float64.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
