"""What the outer level learns: weights of sources, and the net that says where to paste."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from .hypergradients import Weights
from .location import sample_factors

Constraint = Literal["projection", "softplus"]

_LEAST_SOFTPLUS = 1e-3
"""Where softplus starts for a weight of 0, which it cannot reach."""


class OuterParameters:
    """All outer parameters as one tuple of tensors, first the free source weights, if learnt.

    Functions of a tuple ``p`` are pure, so that hypergradients can be taken through them.

    Args:
        initial: ``(J,)`` weights of the sources, at least 0.
        fixed: Index of the source whose weight is not learnt; None if none is.
        constraint: ``projection`` sets negative weights to 0 after every step, ``softplus`` learns
            what weights are the softplus of.
        location_net: Learns where to paste; None for everywhere. Its batch norms keep their
            statistics: a map shall mean the same when it chooses places and when it weighs them.
        rates: Learning rates (Adam) of the weights and of the location net.
        clip: Longest gradient over all parameters; None for any.

    Attributes:
        tensors: The current values.
    """

    def __init__(
        self,
        initial: Tensor,
        fixed: int | None,
        constraint: Constraint,
        location_net: nn.Module | None,
        rates: tuple[float, float],
        clip: float | None,
    ) -> None:
        self._initial, self._fixed, self._constraint = initial, fixed, constraint
        self._location_net, self._clip = location_net, clip
        self._names: list[str] = []
        groups: list[dict[str, object]] = []
        tensors: list[Tensor] = []
        if fixed is not None:
            free = torch.cat([initial[:fixed], initial[fixed + 1 :]])
            if constraint == "softplus":
                free = free.clamp(min=_LEAST_SOFTPLUS).expm1().log()
            tensors.append(free)
            groups.append({"params": [free], "lr": rates[0]})
        if location_net is not None:
            location_net.eval().requires_grad_(False)
            self._names = [name for name, _ in location_net.named_parameters()]
            theta = list(location_net.parameters())
            tensors += theta
            groups.append({"params": theta, "lr": rates[1]})
        self.tensors: Weights = tuple(tensors)
        self._optimiser = torch.optim.Adam(groups) if groups else None

    def source_weights(self, p: Weights) -> Tensor:
        """``(J,)``, the fixed one among them."""
        if self._fixed is None:
            return self._initial
        free = F.softplus(p[0]) if self._constraint == "softplus" else p[0]
        fixed = self._initial[self._fixed : self._fixed + 1]
        return torch.cat([free[: self._fixed], fixed, free[self._fixed :]])

    def location_maps(self, p: Weights, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` images in [0, 1] to ``(N, H, W)`` probabilities of a place."""
        if self._location_net is None:
            return images.new_ones((len(images), *images.shape[2:]))
        theta = dict(zip(self._names, p[-len(self._names) :], strict=True))
        self._location_net.eval()
        return torch.sigmoid(functional_call(self._location_net, theta, (images,)))

    def factors(self, p: Weights, originals: Tensor, areas: Tensor) -> Tensor:
        """``(J, B)`` weights of the samples, all 1 without a location net.

        Args:
            p: Outer parameters.
            originals: ``(B, 3, H, W)`` images that were pasted on.
            areas: ``(J, B, H, W)`` float, 1 where something was pasted.
        """
        if self._location_net is None:
            return areas.new_ones(areas.shape[:2])
        return sample_factors(self.location_maps(p, originals), areas)

    @torch.no_grad()
    def small_maps(self, images: Tensor, size: int) -> NDArray[np.float32]:
        """Current location maps of images, ``(N, h, w)`` with up to ``size`` pixels a side."""
        maps = self.location_maps(self.tensors, images)
        shape = min(maps.shape[1], size), min(maps.shape[2], size)
        small: NDArray[np.float32] = F.adaptive_avg_pool2d(maps, shape).cpu().numpy()
        return small

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move all parameters by one step of Adam, along clipped gradients."""
        if self._optimiser is None:
            return
        if self._clip is not None:
            length = torch.stack([gradient.norm() for gradient in gradients]).norm()
            shrink = (self._clip / length).clamp(max=1.0)
            gradients = [gradient * shrink for gradient in gradients]
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            tensor.grad = gradient
        self._optimiser.step()
        self._optimiser.zero_grad()
        if self._fixed is not None and self._constraint == "projection":
            self.tensors[0].clamp_(min=0)
