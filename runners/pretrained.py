"""What runners share that start from pretrained weights."""

from __future__ import annotations

from collections.abc import Iterable

from autosearch.backbones import Weights, resolve
from autosearch.contracts import Runner
from autosearch.spec import StudySpec


class PretrainedRunner(Runner):
    """Keeps the weights that all trials of a study start from, in `_weights`, by their names."""

    def __init__(self, spec: StudySpec) -> None:
        """Start with none."""
        super().__init__(spec)
        self._weights: dict[str, Weights] = {}

    def _load(self, names: Iterable[object]) -> None:
        """Find the weights of some networks, as the spec says.

        Raises:
            WeightsError: They cannot be had.
        """
        backbone, seed = self.spec.backbone, self.spec.study.seed
        for name in map(str, names):
            found = resolve(name, backbone.weights, seed, backbone.accept_licence)
            self._weights[name] = found

    def weights(self) -> list[dict[str, str]]:
        """See `Runner.weights`."""
        return [weights.provenance() for weights in self._weights.values()]
