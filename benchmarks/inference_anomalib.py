"""PatchCore of anomalib on given images, exported to ONNX: what `inference.py` compares with.

    python benchmarks/inference_anomalib.py FOLDER --batches 1 8

Runs with anomalib's own environment (anomalib, onnx and onnxscript), and imports nothing of
autosearch. FOLDER holds ``train.npy`` and ``test.npy``, ``(N, 3, S, S)`` float32 in [0, 1], and
``weights.safetensors``, tensors by timm's names. Written to it are ``batch-B.onnx`` for every
batch size, ``maps.npy``, the ``(N, S, S)`` maps of the test images by torch, and ``peer.json``.

All settings are anomalib's own but for these: the backbone is normalised for as timm says, its
layers have 1/8 and 1/16 of the input's resolution, images keep their size, and the part that
scales and thresholds maps is left out, which makes the graph no slower. There is one graph for
each batch size, since its search loops over as many chunks of patches as the batch needs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
import timm
import torch
from anomalib.models import Patchcore  # type: ignore[import-not-found]
from anomalib.pre_processing import PreProcessor  # type: ignore[import-not-found]
from safetensors.torch import load_file
from torch import Tensor
from torchvision.transforms.v2 import Compose, Normalize, Resize  # type: ignore[import-untyped]

LAYERS = ("blocks.2", "blocks.4")
BATCH = 8
OPSET = 18


def main() -> None:
    """Train, export, and write what the exported graph is held against."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    folder: Path = options.folder
    train, test = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("train", "test"))
    side = train.shape[-1]
    model = patchcore(options.backbone, side, options.coreset, folder / "weights.safetensors")
    model.train()
    with torch.inference_mode():
        for images in torch.split(train, BATCH):
            model.model(model.pre_processor(images))
        model.fit()
        maps = anomaly_maps(model.eval(), test)
    # Tensors made in inference mode cannot be exported.
    model.model.memory_bank = model.model.memory_bank.clone()
    np.save(folder / "maps.npy", maps.numpy())
    for batch in options.batches:
        written = model.to_onnx(
            folder / f"export-{batch}",
            input_size=(side, side),
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
        shutil.move(written, folder / f"batch-{batch}.onnx")
    about = {
        "anomalib": importlib.metadata.version("anomalib"),
        "torch": torch.__version__,
        "patches": len(model.model.memory_bank),
    }
    (folder / "peer.json").write_text(json.dumps(about), encoding="utf-8")


def patchcore(backbone: str, side: int, coreset: float, weights: Path) -> Patchcore:
    """The untrained detector with the given weights in its backbone."""
    config = timm.get_pretrained_cfg(backbone)
    transform = Compose([Resize((side, side)), Normalize(list(config.mean), list(config.std))])
    model = Patchcore(
        backbone=backbone,
        layers=LAYERS,
        pre_trained=False,
        coreset_sampling_ratio=coreset,
        pre_processor=PreProcessor(transform=transform),
        post_processor=False,
        evaluator=False,
        visualizer=False,
    )
    features = model.model.feature_extractor.feature_extractor
    state = load_file(weights)
    # The file holds a whole classifier, of which only the layers up to the last map are here.
    features.load_state_dict({name: state[name] for name in features.state_dict()})
    return model


def anomaly_maps(model: Patchcore, images: Tensor) -> Tensor:
    """``(N, 3, S, S)`` to ``(N, S, S)``."""
    return torch.cat([model(part).anomaly_map[:, 0] for part in torch.split(images, BATCH)])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train and export anomalib's PatchCore.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="timm model")
    parser.add_argument("--coreset", type=float, default=0.1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
