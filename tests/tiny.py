"""Settings with which a search of the AutoPatch space takes seconds."""

TINY = [
    "dataset.image_size=64", "backbone.weights=random", "space.width=1.0",
    "space.coreset_ratio=0.1", "resources.gpu=0",
]  # fmt: skip
