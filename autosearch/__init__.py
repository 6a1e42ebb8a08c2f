"""Search hyperparameters and architectures for industrial visual anomaly segmentation."""

__version__ = "0.1.0"
