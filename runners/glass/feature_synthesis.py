"""Anomalies in feature space (GAS): noise, gradient ascent, truncated projection.

GLASS, section 3.2 and Algorithm 1, with the constants of the released code. Vectors are rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .losses import quantile
from .networks import MOMENTUM, Discriminator

_PUBLISHED_CHANNELS = 1536
_EPSILON = 1e-10
_CACHED = 1 << 19
"""Numbers of a part's hidden layer, 2 MB."""


@dataclass(frozen=True)
class AscentSettings:
    """How normal vectors become anomalous.

    A radius of 0.5 with a ratio of 2 is what the released code uses, 1 with 2 what the paper
    prints. With the published noise they are different methods: its norm, 0.59, lies within
    [0.5, 1], where projection hardly ever acts, and below [1, 2], where every vector ends at 1.

    Attributes:
        noise_std: Standard deviation of the noise per element of a vector of 1536. That of other
            lengths is scaled so that the norm of the noise keeps its relation to the radius.
        steps: Updates by gradient ascent; 0 leaves plain noise.
        rate: Length of one update.
        project_every: Updates between projections. More than `steps` counts as `steps`.
        manifold_radius: Least distance from the normal vector under the manifold hypothesis.
        radius_ratio: Largest distance by least distance, under either hypothesis.
        coverage_quantile: Share of normal vectors inside the hypersphere.
    """

    noise_std: float = 0.015
    steps: int = 20
    rate: float = 1e-3
    project_every: int = 5
    manifold_radius: float = 0.5
    radius_ratio: float = 2.0
    coverage_quantile: float = 0.75


def noise_like(vectors: Tensor, noise_std: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of the shape of ``(n, C)``, with ``noise_std * sqrt(1536 / C)``."""
    scale = noise_std * math.sqrt(_PUBLISHED_CHANNELS / vectors.shape[1])
    shape, device = tuple(vectors.shape), vectors.device
    return torch.randn(shape, generator=generator, device=device, dtype=vectors.dtype) * scale


def project(offsets: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Bring the norms of rows into ``[low, high]``; a row of zeros has no direction and stays.

    Args:
        offsets: ``(n, C)`` vectors seen from their anchors.
        low: Scalar.
        high: Scalar, at least ``low``.
    """
    norms: Tensor = torch.linalg.vector_norm(offsets, dim=1, keepdim=True)
    scales = norms.clamp(low, high) / (norms + _EPSILON)
    return offsets * scales.masked_fill(norms == 0, 0)


def coverage_radius(vectors: Tensor, centres: Tensor, q: float) -> Tensor:
    """Quantile of the distances of ``(n, C)`` vectors to their centres; without gradient."""
    return quantile(torch.linalg.vector_norm(vectors.detach() - centres, dim=1), q)


def ascend(
    discriminator: Discriminator,
    normal: Tensor,
    anchors: Tensor,
    offsets: Tensor,
    shell: tuple[Tensor, Tensor],
    settings: AscentSettings,
) -> Tensor:
    """Move vectors to where the discriminator takes them for normal, within a shell.

    Every update looks at normal and moved vectors together, as batch norm must, and advances its
    running statistics.

    Args:
        discriminator: Its norm works on the batch, whatever its mode.
        normal: ``(n, C)`` adapted normal vectors.
        anchors: ``(n, C)`` middles of the shells.
        offsets: ``(n, C)`` where the vectors are, seen from their anchors.
        shell: Least and largest distance from the anchor.
        settings: Steps, rate and interval.

    Returns:
        ``(n, C)`` vectors. Gradients flow through anchors, offsets and projections, not through
        the ascent.
    """
    slope = AscentGradient(discriminator, normal.detach())
    interval = min(settings.project_every, settings.steps)
    for step in range(1, settings.steps + 1):
        gradient = slope.gradient((anchors + offsets).detach())
        length = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        offsets = offsets + gradient * (settings.rate / (length + _EPSILON))
        if step % interval == 0:
            offsets = project(offsets, *shell)
    return anchors + offsets


class AscentGradient:
    """Gradient of the moving vectors' loss, were they anomalous, by these vectors, in closed form.

    The loss is their mean ``-ln sigmoid(logit)``, the second term of the discriminator's own.

    Batch norm works on the moving vectors together with as many that stay. Of these it needs no
    more than two sums, so they pass the discriminator once, not at every update, and the moving
    ones pass in parts small enough for a CPU's caches. Automatic differentiation, which must hold
    and walk through both, takes about twice as long.

    Args:
        discriminator: Its weights are read now; its running statistics advance at every call.
        still: ``(n, C)`` vectors that stay.
    """

    @torch.no_grad()
    def __init__(self, discriminator: Discriminator, still: Tensor) -> None:
        self._norm, self._slope = discriminator.norm, discriminator.activation.negative_slope
        self._weight = discriminator.first.weight
        self._last = discriminator.last.weight[0]
        self._still = len(still)
        hidden = F.linear(still, self._weight, discriminator.first.bias)
        self._middle = hidden.mean(dim=0)
        self._squares = hidden.sub_(self._middle).square_().sum(dim=0)
        # Seen from the middle of the still ones, a variance is the difference of small numbers.
        self._bias = discriminator.first.bias - self._middle

    @torch.no_grad()
    def gradient(self, moving: Tensor) -> Tensor:
        """The gradient at ``(n, C)`` vectors, ``(n, C)``."""
        rows = len(moving) if moving.is_cuda else max(1, _CACHED // len(self._weight))
        hidden = [F.linear(part, self._weight, self._bias) for part in torch.split(moving, rows)]
        count = self._still + len(moving)
        mean = torch.stack([part.sum(dim=0) for part in hidden]).sum(dim=0) / count
        squares = torch.stack([part.square().sum(dim=0) for part in hidden]).sum(dim=0)
        variance = (self._squares + squares) / count - mean.square()
        self._track(mean + self._middle, variance * count / (count - 1))
        scale = (variance + self._norm.eps).rsqrt()
        gain = self._norm.weight * scale
        shift = self._norm.bias - mean * gain

        back = [self._through_head(part, gain, shift, len(moving)) for part in hidden]
        # Batch norm's gradient is d - mean(d) - x mean(d x), times its gain, x being normalised.
        total = torch.stack([part.sum(dim=0) for part in back]).sum(dim=0)
        products = [(d * part).sum(dim=0) for d, part in zip(back, hidden, strict=True)]
        correlation = (torch.stack(products).sum(dim=0) - mean * total) * scale.square() / count
        constant = total / count - mean * correlation
        weight = gain[:, None] * self._weight
        return torch.cat(
            [
                d.sub_(constant).addcmul_(part, correlation, value=-1) @ weight
                for d, part in zip(back, hidden, strict=True)
            ]
        )

    def _through_head(self, hidden: Tensor, gain: Tensor, shift: Tensor, count: int) -> Tensor:
        """Gradient by what the norm returns, ``(rows, hidden)``."""
        normed = torch.addcmul(shift, hidden, gain)
        logits = F.leaky_relu(normed, self._slope) @ self._last
        # As a product with 0 and 1, since choosing by `torch.where` costs as much as the layer.
        below, above = self._slope * self._last, (1 - self._slope) * self._last
        slopes = torch.addcmul(below, normed.gt_(0), above)
        return slopes.mul_((torch.sigmoid(-logits) / -count)[:, None])

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        norm = self._norm
        for running, value in ((norm.running_mean, mean), (norm.running_var, variance)):
            if running is not None:
                running.lerp_(value, MOMENTUM)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
