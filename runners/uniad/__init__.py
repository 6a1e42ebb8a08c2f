"""UniAD: a transformer that reconstructs features and cannot copy them.

After "A Unified Model for Multi-class Anomaly Detection" (You et al., NeurIPS 2022) and its
released code, from which it departs only where a docstring says so.
"""
