"""The two networks of DRAEM, and what is asked of them once they are trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autosearch.data import Size

from ..sides import Sides
from ..unets import UNet

_SPREAD = 0.02
"""Of fresh weights in networks of the published widths."""
_BASE_WIDTH, _DISC_WIDTH = 128, 64
"""Of the released code."""


class DraemNetwork(nn.Module):
    """Repairs images, and compares them with what it made of them.

    Fresh weights are as large as in the released code, and those of narrower networks larger, so
    that as much arrives at their ends: norms take a while to learn how much that is.

    Args:
        size: Height and width of the images.
        base_width: Of the finest level of the reconstructive network, which has five levels and
            no connections between its way down and its way up.
        disc_width: The same of the discriminative one, which has six levels and connections.

    Raises:
        Infeasible: Images are too small for six levels.
    """

    def __init__(self, size: Size, base_width: int, disc_width: int) -> None:
        super().__init__()
        self.reconstructive = UNet(3, 3, [base_width * n for n in (1, 2, 4, 8, 8)], skips=False)
        self.discriminative = UNet(6, 2, [disc_width * n for n in (1, 2, 4, 8, 8, 8)], skips=True)
        self.sides = Sides(size, self.discriminative.stride, fewest=2)
        _spread(self.reconstructive, _SPREAD * (_BASE_WIDTH / base_width) ** 0.5)
        _spread(self.discriminative, _SPREAD * (_DISC_WIDTH / disc_width) ** 0.5)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, 3, H, W)`` in [0, 1] to repaired ones and ``(N, 2, H, W)`` logits.

        The second channel of the logits is that of anomalies.
        """
        whole = self.sides.pad(images)
        repaired = self.reconstructive(whole)
        logits = self.discriminative(torch.cat([repaired, whole], dim=1))
        return self.sides.cut(repaired), self.sides.cut(logits)


def _spread(network: UNet, weights: float) -> None:
    """Draw weights anew with this deviation, and factors of norms around 1."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, weights)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, _SPREAD)


class DraemMaps(nn.Module):
    """A trained network as one graph of plain operations.

    Maps are probabilities, averaged over a square window around every pixel. At the border the
    mean is that of the pixels inside; the released code counts zeros for those outside, which
    lowers scores there. It scores images by such means, and pixels without any.

    Args:
        network: Which.
        smoothing: Side of the window in pixels, odd; 1 for none.
    """

    def __init__(self, network: DraemNetwork, smoothing: int) -> None:
        super().__init__()
        self.network = network
        # A mean over rows of means over columns has far fewer terms.
        reach, shapes = smoothing // 2, ((smoothing, 1), (1, smoothing))
        self.means = nn.Sequential(
            *(
                nn.AvgPool2d(
                    shape, 1, (reach * (shape[0] > 1), reach * (shape[1] > 1)), False, False
                )
                for shape in shapes
                if smoothing > 1
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)`` in [0, 1]; higher is more anomalous."""
        _, logits = self.network(images)
        maps: Tensor = self.means(torch.softmax(logits, dim=1)[:, 1:])
        return maps[:, 0]


def make_network(size: Size, base_width: int, disc_width: int, seed: int) -> DraemNetwork:
    """A fresh network on the CPU; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DraemNetwork(size, base_width, disc_width)
