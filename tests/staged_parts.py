"""A runner of nothing but means, for searches in which preprocessing alone makes a difference."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from outside_runners import POWER, MeanImage, MeanImageRunner
from torch import Tensor

from autosearch.contracts import Detector, ParameterInfo, Runner, TrialContext
from autosearch.data import ImageSet
from autosearch.spec import Params, StudySpec

FIGURES = {"objectives": ["rwap", "image_auroc"]}


class Means(MeanImage):
    """Maps are scaled after they were asked for, so that others can follow with another scale."""

    def __init__(self, scale: float, power: int, context: TrialContext) -> None:
        super().__init__(torch.full((1,), scale), power, context.image_size)
        self.context = context

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        self.fit(train)
        yield 0.5

    def fit(self, train: ImageSet) -> None:
        self.train = train
        super().fit(train)

    def answers(self, images: Tensor) -> Tensor:
        return self.anomaly_maps(images) / self._scale

    def maps_of_answers(self, answers: Tensor, images: Tensor) -> Tensor:
        return answers * self._scale

    def follow(self, fitted: Detector) -> None:
        assert isinstance(fitted, Means)
        self._normal = fitted._normal

    def artifacts(self) -> dict[str, bytes]:
        return {"note.txt": b"of means"}

    def figures(self) -> dict[str, float]:
        return {"images_seen": float(len(self.train))}

    def memory(self, images: int) -> int:
        return 100 * images

    def seconds(self, fitted: int, asked: int) -> float | None:
        return 1e-3 * (fitted + asked)


class MeansRunner(MeanImageRunner):
    """Of a whole study, as packages bring them."""

    parameters: ClassVar = {
        "power": POWER,
        "scale": ParameterInfo(1.0, "of maps", low=0.5, high=2.0),
    }
    post_parameters: ClassVar = frozenset({"scale"})
    reads: ClassVar = frozenset({"synthesis.textures"})

    def __init__(self, spec: StudySpec) -> None:
        Runner.__init__(self, spec)

    def build(self, params: Params, context: TrialContext) -> Detector:
        return Means(float(params["scale"] or 0), int(params["power"] or 0), context)

    def post_of(self, canonical: Params) -> frozenset[str]:
        return frozenset({"scale"} & canonical.keys())

    def weights(self) -> list[dict[str, str]]:
        return [{"name": "means", "source": "here", "sha256": "0", "note": ""}]


def content(**space: Any) -> dict[str, Any]:
    """A spec as a mapping."""
    return {"study": {"name": "staged", "runner": "means"}, "space": space, **FIGURES}
