"""Reverse distillation: a student rebuilds the maps of a frozen teacher from a narrow embedding.

After "Anomaly Detection via Reverse Distillation from One-Class Embedding" (Deng and Li, CVPR
2022; *RD4AD*) and its released code, from which it departs only where a docstring says so.
"""
