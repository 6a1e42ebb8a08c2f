"""Backbones: the OFA-MobileNetV3 supernet, and any model of timm."""
