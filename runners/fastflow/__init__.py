"""FastFlow: a two-dimensional normalizing flow on each map of a frozen backbone.

After "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows" (Yu et
al., 2021), from which it departs only where a docstring says so.
"""
