"""How long the exported graph of a detector takes, as an objective and as `export` tells it."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import autosearch
from autosearch import graphs
from autosearch.contracts import (
    Assignment,
    Cost,
    Detector,
    Objective,
    Progress,
    Scored,
    TiledDetector,
    registry,
)
from autosearch.data import ImageSet, SearchData, TileGrid
from autosearch.errors import ConfigError, Infeasible
from autosearch.export import frozen
from autosearch.graphs import latency, onnx_graph
from autosearch.metrics import Truth
from autosearch.spec import StudySpec, load_spec
from autosearch.study import TrialEvaluator, check_packages, earlier
from autosearch.testing.images import image_set

LATENCY = registry.objectives()["latency_ms"]
SIZE = (32, 48)


class Distance(nn.Module):
    """Keeps a tensor, as a bank does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.arange(4.0))

    def forward(self, images: Tensor) -> Tensor:
        return (images.mean(dim=1)[..., None] - self.bank).abs().amin(dim=-1)


class Stub(Detector):
    """Pauses twice while it is fitted; what of it is asked for is written down."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def fit(self, train: ImageSet) -> None:
        pass

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        yield from (0.25, 0.5)

    def anomaly_maps(self, images: Tensor) -> Tensor:
        self.asked.append(tuple(images.shape))
        maps: Tensor = Distance()(images)
        return maps

    def cost(self) -> Cost:
        return Cost(1, 2, 0, 3, 0)

    def module(self) -> nn.Module:
        return Distance()


def scored(**given: Any) -> Scored:
    masks = np.zeros((2, 8, 8), dtype=bool)
    masks[0, 2:4, 2:4] = True
    truth = Truth.from_masks(masks, ["stain", "good"])
    return Scored(masks.astype(np.float32), truth, {}, input_size=SIZE, **given)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterator[float]], Callable[[], None]]:
    """From durations to a call that takes them, on a clock that nothing else moves."""
    now = [0.0]
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def call_of(durations: Iterator[float]) -> Callable[[], None]:
        def call() -> None:
            now[0] += next(durations)

        return call

    return call_of


class TestMedian:
    @pytest.mark.parametrize(
        ("durations", "warm", "timed", "median"),
        [
            ([0.001] * 99, 3, 5, 1.0),  # Settled as soon as there are enough.
            ([9.0, *[0.001, 0.002] * 50], 1, 50, 1.5),  # A slow first call is the only warm-up.
            ([1.0, *[1.0, 3.0] * 50], 1, 5, 1000.0),  # Time is over, but for the least.
            ([0.125] * 3 + [0.125, 0.375] * 50, 3, 8, 250.0),  # Time is over.
        ],
    )
    def test_is_of_as_many_calls_as_it_takes(
        self, clock: Any, durations: list[float], warm: int, timed: int, median: float
    ) -> None:
        left = iter(durations)
        assert latency.median_ms(clock(left)) == pytest.approx(median)
        assert len(durations) - len(list(left)) == warm + timed

    @pytest.mark.parametrize(("spread", "settled"), [(0.05, True), (0.14, None), (0.5, False)])
    def test_settles_by_the_spread_of_its_median(
        self, spread: float, settled: bool | None
    ) -> None:
        times = list(np.random.default_rng(0).normal(1, spread, 41))
        low, middle, high = np.percentile(times, [25, 50, 75])
        expected = (high - low) / np.sqrt(len(times)) < 0.03 * middle
        assert latency._settled(times) == expected
        assert settled is None or expected == settled

    def test_that_spread_is_about_the_standard_error(self) -> None:
        drawn = np.random.default_rng(0).normal(1, 0.1, (2000, 49))
        spread = (np.subtract(*np.percentile(drawn, [75, 25], axis=1)) / 7).mean()
        assert spread == pytest.approx(np.median(drawn, axis=1).std(), rel=0.2)


class TestObjective:
    def test_times_the_graph_on_threads_of_the_spec(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found: dict[str, Any] = {}

        def watched(graph: bytes, provider: str = "cpu", threads: int | None = None) -> Any:
            found["threads"], run = threads, made(graph, provider, threads)

            def answer(images: np.ndarray) -> Any:
                found["images"], found["answer"] = images, run(images)
                return found["answer"]

            return answer

        made = graphs.onnx_run
        monkeypatch.setattr(graphs, "onnx_run", watched)
        detector = Stub()
        assert LATENCY.measure(detector, scored(threads=3)) > 0
        assert found["threads"] == 3 and found["images"].shape == (1, 3, *SIZE)
        assert not detector.asked
        maps, scores = found["answer"]
        expected = Distance()(torch.from_numpy(found["images"])).numpy()
        np.testing.assert_allclose(maps, expected, atol=1e-6)
        assert scores == pytest.approx(expected.max((1, 2)), abs=1e-6)

    def test_studies_of_earlier_versions_time_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        detector = Stub()
        assert LATENCY.measure(detector, scored(threads=None)) > 0
        assert set(detector.asked) == {(1, 3, *SIZE)}

    def test_is_what_export_tells(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(latency, "median_ms", lambda call: (call(), 7.25)[1])
        assert LATENCY.measure(Stub(), scored()) == 7.25
        told, sizes = frozen.Frozen(), []
        frozen._time(
            told, "onnxruntime", lambda images: sizes.append(images.shape), np.zeros((3, 3, *SIZE))
        )
        assert told.latency == {"onnxruntime": 7.25} and sizes == [(1, 3, *SIZE)]

    def test_of_tiles_is_that_of_one_times_their_number(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = []
        monkeypatch.setattr(graphs, "onnx_bytes", lambda module, size, **_: sizes.append(size))
        monkeypatch.setattr(graphs, "onnx_run", lambda graph, threads: print)
        monkeypatch.setattr(latency, "median_ms", lambda call: 0.5)
        grid = TileGrid((64, 80), (32, 32), (0, 16, 32), (0, 24, 48))
        for parts in ([Stub()], [Stub() for _ in range(9)]):
            assert LATENCY.measure(TiledDetector(grid, parts), scored()) == 9 * 0.5
        assert sizes == [grid.tile] * 2

    def test_of_a_graph_that_no_file_can_hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(graphs, "onnx_bytes", partial(onnx_graph.onnx_bytes, limit=15))
        with pytest.raises(Infeasible, match=r"latency_ms: its graph holds '?0\.0 GB"):
            LATENCY.measure(Stub(), scored())


def test_activations_work_in_place_again_after_an_export() -> None:
    module = nn.Sequential(nn.Hardswish(inplace=True), nn.ReLU())
    with pytest.raises(RuntimeError, match="stopped"), onnx_graph._copying(module):
        assert not module[0].inplace and not module[1].inplace
        raise RuntimeError("stopped")
    assert module[0].inplace and not module[1].inplace


class TestRefusal:
    def asked(self, *overrides: str) -> StudySpec:
        return load_spec(registry.find_space("autopatch"), overrides)

    @pytest.mark.parametrize("package", graphs.GRAPH_PACKAGES)
    @pytest.mark.parametrize(
        ("key", "override"),
        [
            ("objectives", "objectives=[latency_ms, rwap]"),
            ("measures", "measures=[latency_ms]"),
            ("constraints", "constraints=['latency_ms <= 3']"),
        ],
    )
    def test_names_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, package: str, key: str, override: str
    ) -> None:
        known = registry.objectives()
        check_packages(self.asked(override), known)
        monkeypatch.setitem(sys.modules, package, None)
        wanted = rf"{key}: 'latency_ms' .* package {package}: pip install 'autosearch\[export\]'"
        with pytest.raises(ConfigError, match=wanted):
            check_packages(self.asked(override), known)
        check_packages(self.asked(), known)
        check_packages(self.asked(override, "resources.latency_threads=null"), known)

    def test_comes_before_anything_is_read_or_written(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        given = ["dataset.root=/nowhere", "objectives=[latency_ms, rwap]"]
        with pytest.raises(ConfigError, match="objectives: 'latency_ms'"):
            autosearch.search("autopatch", given, results=tmp_path / "new", executor="local")
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ([], "it is autosearch"),  # The next thing that is compared.
        (["measures=[latency_ms]"], "resources.latency_threads is 1, None there"),
    ],
)
def test_values_of_earlier_versions_hold_unless_a_graph_is_timed(
    asked: list[str], reason: str
) -> None:
    now = load_spec(registry.find_space("autopatch"), asked)
    then = load_spec(registry.find_space("autopatch"), ["resources.latency_threads=null"])
    inputs: Any = SimpleNamespace(spec=now, known=registry.objectives(), guard=dict)
    folder: Any = SimpleNamespace(load_meta=dict)
    found = earlier._reason_against(inputs, folder, then)
    assert found is not None and found.startswith(reason)


def test_pauses_of_a_training_measure_a_graph_once() -> None:
    measured = []

    def measure(detector: Detector, scored: Scored | None) -> float:
        measured.append(scored)
        return float(len(measured))

    figure = Objective("slow_ms", "minimize", "ms", "score", measure, "counts", graph=True)
    plain = load_spec(registry.find_space("autopatch"), ["resources.latency_threads=2"])
    spec = plain.model_copy(update={"objectives": ["slow_ms", "rwap"]})
    runner: Any = SimpleNamespace(build=lambda params, context: Stub())
    data = SearchData(image_set(32, 2, 0, seed=1), image_set(32, 1, 1, seed=2))
    evaluator = TrialEvaluator(spec, runner, data, (figure,))
    *pauses, outcome = evaluator.once(Assignment(0, {}, {}, 0))
    assert [pause.values["slow_ms"] for pause in pauses if isinstance(pause, Progress)] == [1, 1]
    assert outcome.values["slow_ms"] == 2 and {its.threads for its in measured} == {2}
