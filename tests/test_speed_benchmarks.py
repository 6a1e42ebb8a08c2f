"""Benchmarks that a person runs once on another machine: every path in its smallest form."""

import importlib
import threading
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from autosearch.data import open_index
from autosearch.spec import DatasetSpec

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark that a test is marked with."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module(request.param)


gpu = pytest.mark.parametrize("script", ["gpu"], indirect=True)
front = pytest.mark.parametrize("script", ["time_to_front"], indirect=True)
scaling = pytest.mark.parametrize("script", ["scaling"], indirect=True)


@gpu
def test_without_a_card_it_says_so(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device") as ended:
        script.main([])
    assert ended.value.code != 0


@gpu
@pytest.mark.parametrize(
    ("part", "rows"),
    [("neighbours", None), ("features", 1), ("trials", 2), ("glass", 2), ("synth4seg", 2)],
)
def test_a_dry_run_compares_the_cpu_with_itself(
    script: Any,
    part: str,
    rows: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Processes that start anew take longer than all they do here.
    threads = SimpleNamespace(Barrier=threading.Barrier, Pool=ThreadPool)
    monkeypatch.setattr(script, "get_context", lambda kind: threads)
    script.main(["--device", "cpu", "--small", "--parts", part])
    told = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [cell.strip() for cell in told[0]][:2] == ["what", "how"]
    lines = told[2:]
    # FAISS is compared, too, where there is one.
    others = "faiss-cpu" in script.available_backends("cpu")
    assert len(lines) == (1 + others if rows is None else rows)
    for what, how, *_, differ in lines:
        same = "faiss" not in how and "mixed" not in how
        assert float(differ) == 0 if same else 0 < float(differ) < script.DRAWN, what


@gpu
def test_what_differs_too_much_is_no_result(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    search = script._searched

    def wrong(backend: str, device: str, bank: torch.Tensor, asked: torch.Tensor) -> Any:
        found, seconds = search(backend, device, bank, asked)
        return found + torch.rand(len(found), 1), seconds

    monkeypatch.setattr(script, "_searched", wrong)
    with pytest.raises(SystemExit, match="500 among 3,000") as ended:
        script.main(["--device", "cpu", "--small", "--parts", "neighbours"])
    assert ended.value.code != 0


@front
def test_a_share_is_reached_when_the_trial_that_reaches_it_is_told(script: Any) -> None:
    values = np.array([[4.0, 0.5], [2.0, 0.5], [3.0, 0.9], [1.0, 0.1]])
    run = script.Run(np.array([1.0, 5.0, 6.0, 9.0]), values, trials=6, seconds=12.0)
    grown = script.volumes(run, np.array([4.0, 0.0]))
    # Operations up to 4, the first trial's own: 2 · .5, then 1 · .4 more, then 1 · .1.
    np.testing.assert_allclose(grown, [0.0, 1.0, 1.4, 1.5])
    assert script.reached(run, grown, 0.66 * 1.5) == 5.0
    assert script.reached(run, grown, 1.5) == 9.0
    assert script.reached(run, grown, 1.6) is None
    logged = script.volumes(run, np.array([4.0, 0.0]), log=True)
    np.testing.assert_allclose(logged[1], np.log(2) * 0.5)
    assert run.rate == 30.0


@scaling
def test_copies_of_an_image_are_all_others(script: Any) -> None:
    picture = np.random.default_rng(0).integers(20, 200, (6, 9, 3)).astype(np.uint8)
    made = list(script.copies(picture, 20))
    assert np.array_equal(made[0], picture) and np.array_equal(made[3], picture[::-1, ::-1])
    assert len({one.tobytes() for one in made}) == 20
    assert {one.shape for one in made} == {picture.shape}
    with pytest.raises(SystemExit, match="at most 20, not 21"):
        list(script.copies(picture, 21))


@scaling
def test_a_dataset_becomes_as_many_times_larger(script: Any, tmp_path: Path) -> None:
    assert script.enlarge(DatasetSpec(), tmp_path, 2, most=5) == 10
    index = open_index(DatasetSpec(name="made", root=str(tmp_path), category="part"))
    normal = [sample for sample in index.samples if sample.normal]
    source = open_index(DatasetSpec()).samples
    defects = [sample for sample in index.samples if not sample.normal]
    assert len(normal) == 10 + 4
    assert len(defects) == sum(len(sample.masks) == 1 for sample in source)
    masks = np.asarray(Image.open(defects[0].masks[0]))
    assert masks.any() and set(np.unique(masks)) <= {0, 255}


@scaling
def test_an_exponent_is_that_of_a_power(script: Any) -> None:
    counts = [10, 20, 40, 80]
    assert script.exponent(counts, [3 * n**1.7 for n in counts]) == pytest.approx(1.7)
