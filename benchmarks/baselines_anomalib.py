"""A model of anomalib on given images: what `baselines.py` compares with.

    python benchmarks/baselines_anomalib.py FOLDER ReverseDistillation --backbone resnet18

Runs with anomalib's own environment (anomalib, onnx and onnxscript), and imports nothing of
autosearch. FOLDER holds ``train.npy`` and ``test.npy``, ``(N, 3, H, W)`` float32 in [0, 1], and
for a model whose backbone can be chosen ``weights.safetensors``, tensors by timm's names. Written
to it are ``maps.npy``, the ``(N, H, W)`` maps of the test images by torch, ``scores.npy``, their
image scores, ``model.onnx`` for one image where the model can be exported, and ``peer.json``:
version, seconds of the training, what one image costs.

All settings are anomalib's own but for these: the backbone is normalised for as timm says, images
keep their size, epochs, batch and the first learning rate are given, and so are the widths of
Draem's networks and of CS-Flow's conditioners, the last epoch is what remains, and the part that
scales and thresholds maps is left out. CS-Flow looks at the last level of the given backbone, of
1/32 as is that of its own EfficientNet-B5. Lightning trains without logs and checkpoints.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from anomalib import models  # type: ignore[import-not-found]
from anomalib.data import ImageBatch  # type: ignore[import-not-found]
from anomalib.models.image.csflow import torch_model as csflow  # type: ignore[import-not-found]
from anomalib.models.image.draem import torch_model as draem  # type: ignore[import-not-found]
from anomalib.pre_processing import PreProcessor  # type: ignore[import-not-found]
from lightning.pytorch import (  # type: ignore[import-not-found]
    Callback,
    Trainer,
    seed_everything,
)
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.v2 import Compose, Normalize, Resize  # type: ignore[import-untyped]

LEVELS = {"ReverseDistillation": (1, 2, 3), "Patchcore": (2, 3)}
"""Of timm's levels: those of 1/4 to 1/16 of the image's resolution, and of 1/8 and 1/16."""
OPSET = 18


def main() -> None:
    """Train, score, export."""
    options = _options()
    torch.set_num_threads(options.threads)
    seed_everything(options.seed)
    folder: Path = options.folder
    train, test = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("train", "test"))
    side = (train.shape[-2], train.shape[-1])
    model = MODELS[options.model](options, side)
    seconds = _trained(model, train, options)
    model.eval()
    with torch.no_grad():
        answers = [model(part) for part in torch.split(test, options.batch)]
    # Some models keep a dimension for the map's one channel.
    maps = torch.cat([one.anomaly_map for one in answers]).reshape(-1, *side)
    np.save(folder / "maps.npy", maps.numpy())
    np.save(folder / "scores.npy", torch.cat([one.pred_score.flatten() for one in answers]))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(test[:1])
    about = {
        "anomalib": importlib.metadata.version("anomalib"),
        "torch": torch.__version__,
        "seconds": seconds,
        "flops": counter.get_total_flops(),
    }
    (folder / "peer.json").write_text(json.dumps(about), encoding="utf-8")
    _export(model, folder, side)


def _trained(model: Any, train: Tensor, options: argparse.Namespace) -> float:
    """Train in place; seconds that took."""

    def together(images: list[Tensor]) -> Any:
        stacked = torch.stack(images)
        labels = torch.zeros(len(images), dtype=torch.bool)
        return ImageBatch(image=stacked, gt_label=labels)

    loader = DataLoader([*train], options.batch, shuffle=True, collate_fn=together, num_workers=0)  # type: ignore[arg-type]
    # A memory bank says itself that it takes one epoch.
    wanted = {"devices": 1, "max_epochs": options.epochs, **model.trainer_arguments}
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[] if options.lr is None else [_FirstRate(options.lr)],
        **wanted,
    )
    start = time.perf_counter()
    trainer.fit(model, train_dataloaders=loader)
    return time.perf_counter() - start


class _FirstRate(Callback):  # type: ignore[misc]
    """Sets the learning rate that a training begins with."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """See Lightning."""
        for optimiser in trainer.optimizers:
            for group in optimiser.param_groups:
                group["lr"] = self.rate


def _export(model: Any, folder: Path, side: tuple[int, int]) -> None:
    """One graph for one image; what cannot be exported has none."""
    try:
        written = model.to_onnx(
            folder / "export",
            input_size=side,
            dynamic_shapes=({0: 1},),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    except Exception as error:
        print(f"no graph: {error!r:.300}")
        (folder / "model.onnx").unlink(missing_ok=True)
    else:
        shutil.move(written, folder / "model.onnx")


def _of_backbone(kind: str) -> Callable[[argparse.Namespace, tuple[int, int]], Any]:
    """A model on the given backbone with the given weights."""

    def made(options: argparse.Namespace, side: tuple[int, int]) -> Any:
        config = timm.get_pretrained_cfg(options.backbone)
        transform = Compose([Resize(side), Normalize(list(config.mean), list(config.std))])
        layers = {}
        if kind in LEVELS:
            info = timm.create_model(options.backbone).feature_info
            layers = {"layers": [info[level]["module"] for level in LEVELS[kind]]}
        model = getattr(models, kind)(
            backbone=options.backbone,
            pre_trained=False,
            pre_processor=PreProcessor(transform=transform),
            **layers,
            **_QUIET,
        )
        state = load_file(options.folder / "weights.safetensors")
        extractor = _extractor(model.model, state)
        # The file holds a whole classifier, of which only the layers up to the last map are here.
        extractor.load_state_dict({name: state[name] for name in extractor.state_dict()})
        return model

    return made


def _extractor(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The part of a model that has the names of the backbone's tensors, wherever it lies."""
    for module in model.modules():
        own = module.state_dict()
        if own and own.keys() <= state.keys() and len(own) > 10:
            return module
    raise SystemExit(f"no part of {type(model).__name__} has the tensors of the weights")


def _draem(options: argparse.Namespace, side: tuple[int, int]) -> Any:
    if options.textures is None:
        raise SystemExit("Draem needs --textures, a folder of images")
    transform = Compose([Resize(side)])
    made = models.Draem(
        dtd_dir=options.textures, pre_processor=PreProcessor(transform=transform), **_QUIET
    )
    made.model.reconstructive_subnetwork = draem.ReconstructiveSubNetwork(
        base_width=options.base_width
    )
    made.model.discriminative_subnetwork = draem.DiscriminativeSubNetwork(
        in_channels=6, out_channels=2, base_width=options.disc_width
    )
    return made


class _Pyramid(nn.Module):
    """The last map of a timm model, of an image and of its copies of a half and a quarter.

    Args:
        options: Name of the model, and the folder of its weights.
        side: Height and width of the image.
    """

    def __init__(self, options: argparse.Namespace, side: tuple[int, int]) -> None:
        super().__init__()
        self.network = timm.create_model(options.backbone, features_only=True, out_indices=(4,))
        state = load_file(options.folder / "weights.safetensors")
        self.network.load_state_dict({name: state[name] for name in self.network.state_dict()})
        self.network.requires_grad_(requires_grad=False)
        self.sides = [(side[0] >> halved, side[1] >> halved) for halved in range(3)]

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.network(functional.interpolate(images, one))[0] for one in self.sides]


def _cs_flow(options: argparse.Namespace, side: tuple[int, int]) -> Any:
    """Its own backbone cannot be chosen, so another takes the place of that."""
    pyramid = _Pyramid(options, side).eval()
    channels, node = pyramid.network.feature_info.channels()[-1], csflow.InputNode
    csflow.CsFlowMultiScaleFeatureExtractor = lambda **_: pyramid
    csflow.InputNode = lambda _, *size, **named: node(channels, *size, **named)
    config = timm.get_pretrained_cfg(options.backbone)
    transform = Compose([Resize(side), Normalize(list(config.mean), list(config.std))])
    return models.Csflow(
        cross_conv_hidden_channels=options.hidden,
        pre_processor=PreProcessor(transform=transform),
        **_QUIET,
    )


_QUIET = {"post_processor": False, "evaluator": False, "visualizer": False}
MODELS: dict[str, Callable[[argparse.Namespace, tuple[int, int]], Any]] = {
    "ReverseDistillation": _of_backbone("ReverseDistillation"),
    "Fastflow": _of_backbone("Fastflow"),
    "Patchcore": _of_backbone("Patchcore"),
    "Draem": _draem,
    "Csflow": _cs_flow,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train, score and export a model of anomalib.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--backbone", default="resnet18", help="timm model")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, help="else anomalib's own")
    parser.add_argument("--base-width", type=int, default=128, help="of Draem")
    parser.add_argument("--disc-width", type=int, default=64, help="of Draem")
    parser.add_argument("--hidden", type=int, default=1024, help="of CS-Flow's conditioners")
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
