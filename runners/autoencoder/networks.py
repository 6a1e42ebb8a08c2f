"""Networks that rebuild images: through a code, or as a U-Net."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autosearch.data import Size

from ..sides import Sides
from ..unets import UNet

Architecture = Literal["mvtec", "unet"]

MIDDLE = 0.5
"""Pixel values have this subtracted and are divided by it: a mean and a deviation of 0.5."""
_SLOPE = 0.2
"""Of the activations below 0."""
_LAYERS = (
    (1, True),
    (1, True),
    (1, False),
    (2, True),
    (2, False),
    (4, True),
    (2, False),
    (1, False),
)
"""Width, as a multiple, and whether it halves its map, of every layer of the encoder for images of
128 pixels. For 256 pixels there is one more like the first before them."""
_HALVINGS = sum(halves for _, halves in _LAYERS)


class CodeAutoEncoder(nn.Module):
    """Squeezes an image into a code, a vector, and rebuilds it from that alone.

    The encoder's layers are those of the papers: convolutions of 4 x 4 halve a map, those of 3 x 3
    do not, and one of the size of what is left makes the code. The decoder is its mirror image,
    but where the papers double maps by transposed convolutions, here they are resized (nearest)
    and convolved, 3 x 3: no checkerboards, and layers whose operations are counted.

    Args:
        grid: Rows and columns of the coarsest map.
        width: Channels of the finest maps.
        depth: How often maps are halved, 4 at least.
        code_size: Length of the code.
    """

    def __init__(self, grid: Size, width: int, depth: int, code_size: int) -> None:
        super().__init__()
        layers = [(1, True)] * (depth - _HALVINGS) + list(_LAYERS)
        channels = [3, *(width * times for times, _ in layers)]
        down: list[nn.Module] = []
        for (_, halves), before, after in zip(layers, channels, channels[1:], strict=False):
            down.append(nn.Conv2d(before, after, 4 if halves else 3, 2 if halves else 1, 1))
            down.append(nn.LeakyReLU(_SLOPE))
        self.down = nn.Sequential(*down)
        self.encode = nn.Conv2d(channels[-1], code_size, grid)
        self.decode = nn.Conv2d(code_size, channels[-1] * grid[0] * grid[1], 1)
        self.spread = nn.LeakyReLU(_SLOPE)
        self.up = nn.ModuleList()
        steps = list(zip(layers, channels, channels[1:], strict=False))
        for (_, doubles), after, before in reversed(steps):
            last = nn.Identity() if after == 3 and before == channels[1] else nn.LeakyReLU(_SLOPE)
            self.up.append(_Enlarged(before, after, doubles, last))
        self._cells = channels[-1], *grid

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to what it rebuilds, the same shape."""
        code = self.encode(self.down(images))
        found: Tensor = self.spread(self.decode(code).view(-1, *self._cells))
        for layer in self.up:
            found = layer(found)
        return found


class _Enlarged(nn.Module):
    """A convolution of 3 x 3 and its activation, on a map of twice the sides or of the same."""

    def __init__(self, inputs: int, outputs: int, doubles: bool, activation: nn.Module) -> None:
        super().__init__()
        self.doubles, self.activation = doubles, activation
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, h, w)`` to ``(N, outputs, h, w)``, or twice the sides."""
        if self.doubles:
            maps = F.interpolate(maps, scale_factor=2, mode="nearest")
        made: Tensor = self.activation(self.convolution(maps))
        return made


class AutoEncoder(nn.Module):
    """Rebuilds images of one size.

    Args:
        network: From images around 0 to such images.
        sides: What fits images to it.
    """

    def __init__(self, network: nn.Module, sides: Sides) -> None:
        super().__init__()
        self.network, self.sides = network, sides

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to what is rebuilt of them, roughly in [0, 1]."""
        made = self.network((self.sides.pad(images) - MIDDLE) / MIDDLE)
        return self.sides.cut(made) * MIDDLE + MIDDLE


def make_autoencoder(
    architecture: Architecture,
    size: Size,
    base_width: int,
    depth: int,
    code_size: int,
    skips: bool,
    seed: int,
) -> AutoEncoder:
    """A fresh network on the CPU; torch's global generator stays as it was.

    Args:
        architecture: ``mvtec``, a `CodeAutoEncoder`, or ``unet``, a `UNet` whose levels are twice
            as wide as the next finer one up to eight times the finest.
        size: Height and width of the images.
        base_width: Channels of the finest maps.
        depth: How often maps are halved.
        code_size: Of ``mvtec`` alone.
        skips: Of ``unet`` alone.
        seed: Of the weights.

    Raises:
        Infeasible: Images are too small.
    """
    stride = 2**depth
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "mvtec":
            sides = Sides(size, stride)
            network: nn.Module = CodeAutoEncoder(sides.grid, base_width, depth, code_size)
        else:
            sides = Sides(size, stride, fewest=2)
            widths = [base_width * min(2**level, 8) for level in range(depth + 1)]
            network = UNet(3, 3, widths, skips)
    return AutoEncoder(network, sides)
