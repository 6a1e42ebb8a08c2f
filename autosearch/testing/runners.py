"""What every runner and every detector that it builds must hold."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from torch import Tensor

from autosearch.contracts import (
    Detector,
    Runner,
    TrialContext,
    check_space,
    registry,
    with_defaults,
)
from autosearch.data import ImageSet, Size
from autosearch.graphs import WithScore
from autosearch.metrics import image_scores
from autosearch.spec import Params, Space, Value
from autosearch.testing.configurations import drawn_forms
from autosearch.testing.images import image_set

_FITTED: WeakKeyDictionary[Runner, dict[tuple[type, str], Detector]] = WeakKeyDictionary()
"""Detectors that several checks look at, by suite and configuration."""


class RunnerSuite:
    """Checks of a `Runner` and of its detectors.

    Give a fixture ``runner``, an instance, best made once for all checks, which leave it as it
    was. Some dozen detectors are fitted for the first configuration, and five for every other, so
    networks should be tiny. The images and the context, with its device, are fixtures to override.

    Attributes:
        configurations: Parameters to try. Training that pauses should do so in the first.
        side: Of the square images in pixels.
        rectangle: Height and width of the images of the check that is not on squares, the same
            height and more width; None for a width of one and a half sides.
        learns_at_once: Whether after a fit as short as here what was learnt as normal scores lower
            for it. Else leaving pixels out is only asked to make a difference.
        drawn: Number of random configurations of which the canonical form is looked at.
        texts: Values for parameters that take any text; without, those keep their defaults.
        dependent_defaults: Parameters whose default is another one beside some other values.
        never: Choices that the study of ``runner`` does not allow.
        tolerance: Relative difference of maps that were computed in another order.
    """

    configurations: ClassVar[Sequence[Params]] = ({},)
    side: ClassVar[int] = 64
    rectangle: ClassVar[Size | None] = None
    learns_at_once: ClassVar[bool] = True
    drawn: ClassVar[int] = 300
    texts: ClassVar[Sequence[str]] = ()
    dependent_defaults: ClassVar[Collection[str]] = ()
    never: ClassVar[Sequence[Value]] = ()
    tolerance: ClassVar[float] = 1e-4

    @pytest.fixture
    def train(self, runner: Runner) -> ImageSet:
        """Images to fit on, anomalous ones only for a supervised runner."""
        return image_set(self.side, 3, 3 if runner.supervised else 0, seed=0)

    @pytest.fixture
    def other(self, runner: Runner) -> ImageSet:
        """Images of a fit that is to be forgotten."""
        return image_set(self.side, 2, 2 if runner.supervised else 0, seed=1)

    @pytest.fixture
    def context(self) -> TrialContext:
        """What detectors are built with."""
        return TrialContext(0, "cpu", (self.side, self.side), image_set(self.side, 2, 3, seed=2))

    @pytest.fixture
    def asked(self) -> Tensor:
        """Images to score, at least 3."""
        return torch.from_numpy(image_set(self.side, 2, 1, seed=3).pixels.copy())

    @pytest.fixture
    def detector(
        self, runner: Runner, params: Params, context: TrialContext, train: ImageSet
    ) -> Detector:
        """One that is fitted, for every configuration; checks only look at it."""
        return self._known(runner, params, context, train)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run checks that take ``params`` once for every configuration."""
        if "params" in metafunc.fixturenames:
            metafunc.parametrize("params", self.configurations)

    def test_parameters_are_well_formed(self, runner: Runner) -> None:
        """Every parameter is explained, and its default is among what it allows."""
        assert runner.description.strip() and "\n" not in runner.description
        for name, info in runner.parameters.items():
            assert info.help.strip(), name
            assert info.text or info.choices or info.low < info.high, name
        space = Space.parse({name: [info.default] for name, info in runner.parameters.items()})
        check_space(space, runner.parameters, type(runner).__name__)

    def test_canonical_form_is_a_fixed_point_of_json_scalars(self, runner: Runner) -> None:
        """A canonical form is its own, and the same after a way through JSON."""
        for _, canonical in self._forms(runner):
            assert runner.canonical(canonical) == canonical
            assert json.loads(json.dumps(canonical, allow_nan=False)) == canonical
            for value in canonical.values():
                assert value is None or isinstance(value, (str, int, float))

    def test_missing_parameters_take_their_defaults(self, runner: Runner) -> None:
        """A default that is written out makes no difference."""
        for params, canonical in self._forms(runner):
            full = with_defaults(params, runner.parameters)
            for name in set(self.dependent_defaults) - params.keys():
                del full[name]
            assert runner.canonical(full) == canonical

    def test_canonical_leaves_its_argument_alone(self, runner: Runner) -> None:
        """What was asked for is kept beside its canonical form."""
        for params, _ in self._forms(runner):
            given = dict(params)
            runner.canonical(params)
            assert params == given

    def test_equal_canonical_forms_give_equal_maps(
        self,
        runner: Runner,
        params: Params,
        context: TrialContext,
        train: ImageSet,
        asked: Tensor,
        detector: Detector,
    ) -> None:
        """Nothing but the form and the seed decides, neither order nor other random draws."""
        written = json.dumps(runner.canonical(params), sort_keys=True)
        again = runner.build(json.loads(written), context)
        again.fit(train)
        _assert_equal(again.anomaly_maps(asked), detector.anomaly_maps(asked))

    def test_maps_are_finite_float32_on_the_cpu(
        self, runner: Runner, asked: Tensor, detector: Detector
    ) -> None:
        """One map of the image's size for every image, and not the same score everywhere."""
        maps = detector.anomaly_maps(asked)
        assert maps.shape == (len(asked), self.side, self.side)
        assert maps.dtype == torch.float32 and maps.device.type == "cpu"
        assert maps.isfinite().all() and maps.std() > 0
        if runner.probabilities:
            assert maps.min() >= 0 and maps.max() <= 1

    def test_one_image_is_scored_as_in_a_batch(self, asked: Tensor, detector: Detector) -> None:
        """Images know nothing of each other."""
        together = detector.anomaly_maps(asked)
        for index in range(len(asked)):
            self._assert_close(detector.anomaly_maps(asked[index : index + 1])[0], together[index])

    def test_module_computes_the_same_maps(
        self, context: TrialContext, asked: Tensor, detector: Detector
    ) -> None:
        """What is exported is what was measured."""
        with torch.no_grad():
            found = detector.module()(asked.to(context.device))
        self._assert_close(found.cpu(), detector.anomaly_maps(asked))

    def test_image_scores_are_those_of_its_graph(
        self, context: TrialContext, asked: Tensor, detector: Detector
    ) -> None:
        """``top_share`` goes with an export, which writes it down and computes scores by it."""
        share = detector.top_share
        assert share is None or (isinstance(share, (int, float)) and 0 < share <= 1)
        expected = image_scores(detector.anomaly_maps(asked).numpy(), share)
        module = detector.module()
        assert json.loads(json.dumps(detector.top_share)) == share
        with torch.no_grad():
            _, scores = WithScore(module, detector.top_share)(asked.to(context.device))
        self._assert_close(scores.cpu(), torch.from_numpy(expected).to(scores.dtype))

    def test_cost_of_the_network_is_known_before_a_fit(
        self, runner: Runner, params: Params, context: TrialContext, detector: Detector
    ) -> None:
        """Building is enough, without validation images; a fit adds the memory bank alone."""
        before = self._built(runner, params, replace(context, validation=None)).cost()
        assert before.flops >= 2 * before.macs >= 0 and before.flops > 0
        assert before.parameters >= 0 and before.search_flops == before.bank_bytes == 0
        after = detector.cost()
        assert replace(after, search_flops=0, bank_bytes=0) == before
        assert (after.search_flops > 0) == (after.bank_bytes > 0)

    def test_scoring_needs_a_fit(
        self, runner: Runner, params: Params, context: TrialContext, asked: Tensor
    ) -> None:
        """There are no maps of what has learnt nothing."""
        with pytest.raises(RuntimeError, match="fit"):
            self._built(runner, params, context).anomaly_maps(asked)

    def test_fitting_again_forgets(
        self,
        runner: Runner,
        params: Params,
        context: TrialContext,
        train: ImageSet,
        other: ImageSet,
        asked: Tensor,
        detector: Detector,
    ) -> None:
        """The last fit decides alone."""
        again = self._fitted(runner, params, context, other)
        assert not torch.equal(again.anomaly_maps(asked), detector.anomaly_maps(asked))
        again.fit(train)
        _assert_equal(again.anomaly_maps(asked), detector.anomaly_maps(asked))
        assert again.cost() == detector.cost()

    def test_fit_in_steps_ends_as_fit_does(
        self,
        runner: Runner,
        params: Params,
        context: TrialContext,
        train: ImageSet,
        asked: Tensor,
        detector: Detector,
    ) -> None:
        """Fractions rise and stay below 1; a look at the maps in a pause changes nothing."""
        again, fractions = self._built(runner, params, context), [0.0]
        for fraction in again.fit_in_steps(train):
            fractions.append(fraction)
            assert again.anomaly_maps(asked).isfinite().all()
        assert fractions == sorted(set(fractions)) and fractions[-1] < 1
        _assert_equal(again.anomaly_maps(asked), detector.anomaly_maps(asked))

    def test_artifacts_are_bytes_by_file_name(self, detector: Detector) -> None:
        """They land in the trial's folder, and ``curves.json`` can be drawn."""
        files = detector.artifacts()
        for name, content in files.items():
            assert name == PurePath(name).name and not name.startswith(".") and "\\" not in name
            assert isinstance(content, bytes)
        if "curves.json" in files:
            curves = json.loads(files["curves.json"])
            assert isinstance(curves["x"], str)
            series = [
                numbers for panel in curves["panels"] for numbers in panel["series"].values()
            ]
            assert all(isinstance(panel["title"], str) for panel in curves["panels"])
            assert len({len(numbers) for numbers in series}) <= 1
            assert all(value is None or math.isfinite(value) for one in series for value in one)

    def test_figures_are_finite_numbers(self, detector: Detector) -> None:
        """They are stored beside what is measured, under names that mean nothing else there."""
        for name, figure in detector.figures().items():
            assert name.isidentifier() and name not in registry.objectives(), name
            assert isinstance(figure, (int, float)) and math.isfinite(figure), name

    def test_inputs_are_left_alone(
        self, runner: Runner, context: TrialContext, train: ImageSet, asked: Tensor
    ) -> None:
        """All workers share one copy of the images."""
        before = train.pixels.copy(), train.masks.copy(), asked.clone()
        self._fitted(runner, self.configurations[0], context, train).anomaly_maps(asked)
        np.testing.assert_array_equal(train.pixels, before[0])
        np.testing.assert_array_equal(train.masks, before[1])
        assert torch.equal(asked, before[2])

    def test_pickled_runner_builds_the_same(
        self, runner: Runner, context: TrialContext, train: ImageSet, asked: Tensor
    ) -> None:
        """The copies that workers get make no difference."""
        copied: Runner = pickle.loads(pickle.dumps(runner))
        assert copied.weights() == runner.weights()
        for entry in copied.weights():
            assert {"name", "source", "sha256", "note"} <= entry.keys()
        params = self.configurations[0]
        found, expected = (self._fitted(r, params, context, train) for r in (copied, runner))
        _assert_equal(found.anomaly_maps(asked), expected.anomaly_maps(asked))

    def test_detectors_share_no_weights_with_the_runner(
        self, runner: Runner, context: TrialContext, train: ImageSet, asked: Tensor
    ) -> None:
        """One detector's loss is not another's, nor that of those still to be built."""
        # Of a copy, or a runner that fails here would spoil the checks that follow.
        runner, params = copy.deepcopy(runner), self.configurations[0]
        kept = self._fitted(runner, params, context, train)
        expected = kept.anomaly_maps(asked)
        spoilt = self._fitted(runner, params, context, train).module()
        with torch.no_grad():
            for tensor in (*spoilt.parameters(), *spoilt.buffers()):
                tensor.zero_()
        built = self._fitted(runner, params, context, train)
        for detector in (kept, built):
            _assert_equal(detector.anomaly_maps(asked), expected)

    def test_module_exports_for_any_number_of_images(
        self, runner: Runner, context: TrialContext, train: ImageSet, asked: Tensor
    ) -> None:
        """Its operations are plain: torch traces them with a batch of any size."""
        known = self._known(runner, self.configurations[0], context, train)
        module = WithScore(copy.deepcopy(known.module()).cpu(), known.top_share)
        batch = torch.export.Dim("batch", min=1, max=64)
        graph = torch.export.export(module, (asked[:2],), dynamic_shapes=({0: batch},)).module()
        for count in (1, len(asked)):
            with torch.no_grad():
                pairs = zip(graph(asked[:count]), module(asked[:count]), strict=True)
            for found, expected in pairs:
                self._assert_close(found, expected)

    def test_rectangles_are_scored_in_their_shape(
        self, runner: Runner, context: TrialContext
    ) -> None:
        """Maps lie as the images do, are exported as they are, and larger images cost more."""
        size = self.rectangle or (self.side, self.side * 3 // 2)
        wide = replace(context, image_size=size, validation=image_set(size, 2, 3, seed=2))
        train = image_set(size, 3, 3 if runner.supervised else 0, seed=0)
        found = self._fitted(runner, self.configurations[0], wide, train)
        asked = torch.from_numpy(image_set(size, 2, 0, seed=3).pixels.copy())
        maps = found.anomaly_maps(asked)
        assert maps.shape == (len(asked), *size) and maps.isfinite().all()
        module = copy.deepcopy(found.module()).cpu()
        graph = torch.export.export(module, (asked,)).module()
        with torch.no_grad():
            self._assert_close(graph(asked), maps)
        half = size[1] // 2
        asked[..., -half // 2 :] = 0.1
        change = (found.anomaly_maps(asked) - maps).abs()
        assert change[..., -half:].mean() > change[..., :half].mean()
        square = self._built(runner, self.configurations[0], context)
        assert found.cost().flops > square.cost().flops

    def test_pixels_that_do_not_count_are_not_learnt(
        self, runner: Runner, context: TrialContext, train: ImageSet
    ) -> None:
        """What is seen where nothing counts stays unknown."""
        half = self.side // 2

        def stained(images: ImageSet) -> ImageSet:
            pixels = images.pixels.copy()
            pixels[:, :, :half, :half] = np.array([[[0.9]], [[0.1]], [[0.1]]])
            return replace(images, pixels=pixels)

        valid = np.ones(train.masks.shape, dtype=bool)
        valid[:, :half, :half] = False
        asked = torch.from_numpy(stained(image_set(self.side, 2, 0, seed=3)).pixels)
        of_all, of_valid = (
            self._fitted(runner, self.configurations[0], context, images).anomaly_maps(asked)
            for images in (stained(train), replace(stained(train), valid=valid))
        )
        assert not torch.equal(of_all, of_valid)
        if self.learns_at_once:
            inside, outside = slice(0, half // 2), slice(half, None)
            by_all, by_valid = (
                maps[:, inside, inside].mean() - maps[:, outside, outside].mean()
                for maps in (of_all, of_valid)
            )
            assert by_valid > by_all

    def _built(self, runner: Runner, params: Params, context: TrialContext) -> Detector:
        return runner.build(runner.canonical(params), context)

    def _fitted(
        self, runner: Runner, params: Params, context: TrialContext, train: ImageSet
    ) -> Detector:
        detector = self._built(runner, params, context)
        detector.fit(train)
        return detector

    def _known(
        self, runner: Runner, params: Params, context: TrialContext, train: ImageSet
    ) -> Detector:
        """A fitted detector that is not to be changed, made once."""
        known, key = _FITTED.setdefault(runner, {}), (type(self), repr(sorted(params.items())))
        if key not in known:
            known[key] = self._fitted(runner, params, context, train)
        return known[key]

    def _assert_close(self, found: Tensor, expected: Tensor) -> None:
        nothing = self.tolerance / 10 * expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=self.tolerance, atol=nothing)

    def _forms(self, runner: Runner) -> Iterator[tuple[Params, Params]]:
        return drawn_forms(runner, self.drawn, self.texts, self.never)


def _assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
