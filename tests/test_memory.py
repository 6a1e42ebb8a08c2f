"""Memory banks and coresets against naive float64 computations."""

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from autosearch.errors import ConfigError
from autosearch.memory import bank as memory
from autosearch.memory.bank import BACKENDS, MemoryBank, available_backends, make_memory_bank
from autosearch.memory.kcenter import coreset, draw
from autosearch.testing import MemoryBankSuite

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("backend", BACKENDS)
class TestBackends(MemoryBankSuite):
    @pytest.fixture
    def make_bank(self, backend: str) -> Callable[[int], MemoryBank]:
        if backend not in available_backends(DEVICE):
            pytest.skip(f"{backend} does not work here")
        return lambda dimension: make_memory_bank(backend, dimension, DEVICE)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def oracle(queries: Tensor, bank: Tensor, num_neighbors: int = 1) -> Tensor:
    """Differences in float64, one query at a time."""
    rows = [(bank.double() - query).square().sum(1) for query in queries.double()]
    return torch.stack(rows).sort(dim=1).values[:, :num_neighbors]


def filled(patches: Tensor) -> MemoryBank:
    bank = make_memory_bank("torch", patches.shape[1], DEVICE)
    bank.add(patches)
    return bank


@pytest.mark.parametrize("block", [(1, 1), (3, 2), (5, 64)])
def test_block_sizes_do_not_matter(monkeypatch, block):
    monkeypatch.setattr(memory, "_BLOCK", block)
    bank, queries = normal(23, 5), normal(11, 5, seed=1)
    found = filled(bank).search(queries, 4)
    torch.testing.assert_close(found.double(), oracle(queries, bank, 4), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("queries", [1, 5, 2500])
def test_threads_agree_and_are_restored(queries):
    bank, asked = filled(normal(40, 6)), normal(queries, 6, seed=1)
    alone = bank.search(asked, 2)
    try:
        torch.set_num_threads(3)
        together = bank.search(asked, 2)
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(1)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_unknown_backend_is_refused():
    with pytest.raises(ConfigError, match=r"memory\.backend: 'fais-cpu'.*'faiss-cpu'"):
        make_memory_bank("fais-cpu", 2)


def test_faiss_that_cannot_load_is_as_good_as_absent(monkeypatch, tmp_path):
    # What faiss-gpu does where the NVIDIA packages it needs are missing.
    (tmp_path / "faiss.py").write_text("raise RuntimeError('no libcublas')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    assert available_backends() == ("torch", "torch-float32")
    assert make_memory_bank("auto", 2).search is not None
    with pytest.raises(ConfigError, match=r"memory\.backend.*faiss-cpu.*pip install"):
        make_memory_bank("faiss-cpu", 2)
    with pytest.raises(ConfigError, match=r"memory\.backend.*GPU.*pip install"):
        make_memory_bank("faiss-gpu", 2, "cuda")


def greedy_k_center(points: Tensor, count: int) -> list[int]:
    """Farthest-first traversal from the point nearest to the mean, from all pairs in float64."""
    points = points.double()
    pairs = (points[:, None] - points[None]).square().sum(2)
    chosen = [int((points - points.mean(0)).square().sum(1).argmin())]
    while len(chosen) < count:
        chosen.append(int(pairs[:, chosen].min(dim=1).values.argmax()))
    return chosen


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_k_center_is_greedy(offset):
    patches = normal(200, 6) + offset
    assert coreset(patches, count=40).tolist() == greedy_k_center(patches, 40)


CENTRES = normal(7, 9, seed=1).repeat_interleave(60, 0)


@pytest.mark.parametrize(
    "patches",
    [normal(420, 9), 4 * CENTRES + normal(420, 9), 0.1 * CENTRES + normal(420, 9, seed=2)],
    ids=["cloud", "clusters", "overlapping"],
)
def test_k_center_of_few_that_are_held_is_that_of_all(monkeypatch, patches):
    module = importlib.import_module("autosearch.memory.kcenter")
    monkeypatch.setattr(module, "_PRODUCTS", 1000)
    expected = greedy_k_center(patches, 419)
    for held in (1, 40, 419):
        monkeypatch.setattr(module, "_HELD", held)
        for count in (1, 2, 50, 419):
            assert coreset(patches, count=count).tolist() == expected[:count]


def test_k_center_holds_few_and_seldom_asks_all(monkeypatch):
    module = importlib.import_module("autosearch.memory.kcenter")
    met, meet, held, farthest = [], module._meet, [], module._farthest
    monkeypatch.setattr(module, "_HELD", 200)
    monkeypatch.setattr(module, "_meet", lambda *given: met.append(len(given[3])) or meet(*given))
    monkeypatch.setattr(
        module, "_farthest", lambda *given: held.append(len(given[0])) or farthest(*given)
    )
    coreset(normal(2000, 20), count=400)
    assert set(held) == {200} and len(met) < 40 and max(met) > 20


def test_smaller_coresets_are_prefixes():
    patches = normal(120, 150)
    for method in ("kcenter", "random"):
        large, small = (coreset(patches, ratio=r, method=method, seed=3) for r in (0.5, 0.1))
        assert len(large) == 60 and torch.equal(large[:12], small)


@pytest.mark.parametrize("method", ["kcenter", "random"])
def test_seed_decides_the_coreset(method):
    patches = normal(400, 150)
    first, again, other = (
        coreset(patches, ratio=0.2, method=method, seed=seed).tolist() for seed in (0, 0, 1)
    )
    assert first == again != other
    assert len(set(first)) == 80 and all(0 <= index < 400 for index in first)


def test_k_center_covers_what_random_misses():
    patches = torch.cat([normal(500, 200) * 0.1, normal(3, 200, seed=1) * 10])
    chosen = coreset(patches, count=4)
    assert {500, 501, 502} < set(chosen.tolist())


@pytest.mark.parametrize("held", [3, 5000])
def test_duplicates_are_chosen_once(monkeypatch, held):
    module = importlib.import_module("autosearch.memory.kcenter")
    monkeypatch.setattr(module, "_HELD", held)
    patches = normal(5, 3).repeat(4, 1)
    chosen = coreset(patches, count=19)
    assert len(set(chosen.tolist())) == 19
    assert len({index % 5 for index in chosen[:5].tolist()}) == 5


def test_count_of_a_ratio():
    patches = normal(10, 2)
    sizes = [len(coreset(patches, ratio=ratio)) for ratio in (0.01, 0.25, 0.36, 1, 1.0)]
    assert sizes == [1, 2, 4, 10, 10]
    assert coreset(patches, ratio=1).tolist() == list(range(10))


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"ratio": 0}, "coreset_ratio"),
        ({"ratio": 1.5}, "coreset_ratio"),
        ({"ratio": float("nan")}, "coreset_ratio"),
        ({}, "coreset_ratio"),
        ({"ratio": 0.5, "count": 5}, "coreset_ratio"),
        ({"count": 0}, "coreset_count"),
        ({"count": 11}, "coreset_count"),
        ({"ratio": 0.5, "method": "k-center"}, "coreset_method"),
    ],
)
def test_impossible_coresets_are_refused(arguments, key):
    with pytest.raises(ConfigError) as error:
        coreset(normal(10, 2), **arguments)
    assert error.value.key == key


def test_coreset_of_broken_numbers_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        coreset(torch.tensor([[0.0], [float("nan")]]), count=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["torch", "faiss-cpu"])
def test_memory_stays_bounded(name):
    if name not in available_backends():
        pytest.skip(f"{name} does not work here")
    script = f"""
        import resource, torch
        from autosearch.memory import make_memory_bank
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        bank, patches = make_memory_bank({name!r}, 64), torch.randn(600_000, 64)
        queries = torch.randn(10_000, 64)
        before = peak()
        bank.add(patches)
        bank.search(queries)
        print(peak() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(result.stdout) * unit < 2 << 30


@pytest.mark.parametrize("total", [2, 1000, 70_000])
def test_a_draw_is_the_beginning_of_the_whole_permutation(total: int) -> None:
    whole = torch.randperm(total, generator=torch.Generator().manual_seed(7))
    drawn = draw(total, total // 2, 7)
    assert drawn.dtype == torch.int64 and torch.equal(drawn, whole[: total // 2])
