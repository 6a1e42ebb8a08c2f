"""A small bi-level training: a network, pictures with squares in them, and sources of more."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from autosearch_runners.synth4seg.sources import Batch, Location
from autosearch_runners.synth4seg.training import BilevelSettings, BilevelTrainer
from torch import Tensor, nn

SIDE = 12
QUICK = BilevelSettings(
    epochs=4, images_per_epoch=6, batch=2, lr=1e-2, scale=0.1, warmup_fraction=0.25, outer_batch=3
)


class Net(nn.Module):
    """Images to logits, with a batch norm."""

    def __init__(self, seed: int = 0, bias: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.norm = nn.BatchNorm2d(6)
            self.last = nn.Conv2d(6, 1, 1)
        nn.init.constant_(self.last.bias, bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.relu(self.norm(self.first(images))))[:, 0]


def scenes(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Noisy images with a bright square each, and where it is."""
    images = rng.uniform(0.3, 0.5, (count, 3, SIDE, SIDE)).astype(np.float32)
    masks = np.zeros((count, SIDE, SIDE), dtype=np.float32)
    for image, mask in zip(images, masks, strict=True):
        row, column = rng.integers(0, SIDE - 4, 2)
        mask[row : row + 4, column : column + 4] = 1
        image[:, mask == 1] += 0.4
    return torch.from_numpy(images), torch.from_numpy(masks)


@dataclass
class Squares:
    """A stand-in for `Sources`: right labels, and as many sources with inverted ones as asked."""

    names: tuple[str, ...] = ("right", "wrong")
    size: int = 2
    drawn: list[Batch] = field(default_factory=list)
    allowed: list[np.ndarray] = field(default_factory=list)

    def draw(self, rng: np.random.Generator, location: Location | None = None) -> Batch:
        originals = torch.from_numpy(
            rng.uniform(0.3, 0.5, (self.size, 3, SIDE, SIDE)).astype(np.float32)
        )
        if location is not None:
            self.allowed.append(location(originals))
        made = [scenes(self.size, rng) for _ in self.names]
        images = torch.stack([images for images, _ in made])
        areas = torch.stack([masks for _, masks in made])
        wrong = torch.tensor([name.startswith("wrong") for name in self.names])
        targets = torch.where(wrong[:, None, None, None], 1 - areas, areas)
        self.drawn.append(Batch(images, targets, areas, originals))
        return self.drawn[-1]


TRAIN = scenes(5, np.random.default_rng(7))[0]
VAL = scenes(6, np.random.default_rng(8))


def train(
    settings: BilevelSettings = QUICK,
    sources: Squares | None = None,
    seed: int = 0,
    location_net: Net | None = None,
) -> tuple[BilevelTrainer, Net]:
    network = Net()
    trainer = BilevelTrainer(network, location_net, settings, seed, "cpu")
    for _ in trainer.run(sources or Squares(), TRAIN, *VAL):
        pass
    return trainer, network


def location_net() -> Net:
    return Net(seed=1, bias=3.0)


LOCATION = replace(QUICK, outer_task="location", outer_lr_location=1e-2, gamma=1e-6)


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Half cross entropy, half Dice; a mean over images."""
    dice = [
        1 - (2 * (p * t).sum() + 1) / ((p + t).sum() + 1)
        for p, t in zip(logits.sigmoid(), targets, strict=True)
    ]
    return (F.binary_cross_entropy_with_logits(logits, targets) + torch.stack(dice).mean()) / 2
