"""GLASS: anomalies made in feature and image space teach a discriminator what is normal.

After "A Unified Anomaly Synthesis Strategy with Gradient Ascent for Industrial Anomaly Detection
and Localization" (Chen et al., ECCV 2024) and its released code, from which it departs only where
a docstring says so.
"""
