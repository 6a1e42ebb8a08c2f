"""PatchCore's score of an image: its farthest patch counts less where normal ones are rare.

The whole map of an image is scaled by its weight, since its score is that of its map wherever
there are only maps, as in an exported graph: so it is the same in search, evaluation, export and
prediction. Pixel figures, which rank the pixels of all images together, change a little with it;
the order of the pixels within an image does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .scores import NearestRows


class ReweightedRows(NearestRows):
    """Scores of patches, times a weight of their image.

    For the patch with the highest score, its distance s* to its nearest row m* and its distances
    to the b rows nearest to m*, itself among them, the weight is
    ``1 - exp(s*) / sum(exp(distance))`` (Roth et al., "Towards Total Recall in Industrial Anomaly
    Detection", CVPR 2022, equation 7). It lies between ``1 - 1/b`` and 1, and is low where the
    rows around m* are as near to the patch as m* itself.

    Args:
        bank: ``(M, D)`` patches of normal images, b at least.
        num_neighbors: Neighbours whose mean squared distance is the score of a patch.
        around: The number b.
        counted: ``(p,)`` cells that may be the farthest: what never counts is in no bank.
        root: Whether roots are taken of scores later, so that they want the weight squared.
    """

    counted: Tensor

    def __init__(
        self, bank: Tensor, num_neighbors: int, around: int, counted: Tensor, root: bool
    ) -> None:
        super().__init__(bank, num_neighbors)
        self._around, self._root = around, root
        self.register_buffer("counted", counted.to(bank.device), persistent=False)

    def forward(self, patches: Tensor, alike: Tensor | None = None) -> Tensor:
        """``(N, P, D)`` to ``(N, P)``."""
        scores = super().forward(patches, alike)
        return scores * self.factors(patches, scores)

    def factors(self, patches: Tensor, scores: Tensor) -> Tensor:
        """What the scores of images are multiplied with.

        Args:
            patches: ``(N, P, D)``.
            scores: ``(N, P)`` mean squared distances.

        Returns:
            ``(N, 1)``.
        """
        farthest = self.counted[scores.index_select(1, self.counted).argmax(1)]
        where = farthest[:, None, None].expand(-1, 1, patches.shape[2])
        squared = self._distances(patches.gather(1, where)[:, 0] - self.origin)
        nearest = squared.argmin(1)
        around = self._distances(self._rows(nearest))
        chosen = around.topk(self._around, dim=1, largest=False).indices
        distances = squared.gather(1, chosen).sqrt()
        own = squared.gather(1, nearest[:, None]).sqrt()
        weights = 1 - (own - distances.logsumexp(1, keepdim=True)).exp()
        return weights.square() if self._root else weights

    def _distances(self, queries: Tensor) -> Tensor:
        """Squared distances of ``(N, D)``, less the origin, to all rows: ``(N, M)``."""
        products = torch.cat([queries @ block for block in self.bank], dim=1)
        distances = queries.square().sum(1, keepdim=True) - 2 * products + self.squares
        return distances.clamp(min=0)

    def _rows(self, numbers: Tensor) -> Tensor:
        """Rows of the bank, less the origin: ``(N,)`` to ``(N, D)``, from whichever block."""
        found, start = [], 0
        for block in self.bank:
            size = block.shape[1]
            within = numbers - start
            columns = block.index_select(1, within.clamp(0, size - 1)).T
            here = (within >= 0) & (within < size)
            found.append(columns * here[:, None].to(columns.dtype))
            start += size
        return torch.stack(found).sum(0)
