"""Banks that know where a patch lies, or in which image: a slow oracle over all borders."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from autosearch.memory import coreset
from autosearch.memory.images import AlikeImages, ImageBank
from autosearch.memory.kcenter import coreset_at_places, draw_at_places
from autosearch.memory.windows import Blocks, WindowedBank, stand_ins

D = 6
GRIDS = [(5, 7), (9, 4), (3, 3), (1, 6), (10, 11)]


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vectors(seed: int, *shape: int) -> Tensor:
    """With a mean far from 0, as features have."""
    return torch.randn(*shape, D, generator=draw(seed)) + 30


def slow(
    queries: Tensor, patches: Tensor, places: Tensor, radius: float, neighbours: int = 1
) -> Tensor:
    """Place after place: the mean of the smallest distances, infinite where there are too few."""
    count, height, width, _ = queries.shape
    rows, columns = places // width, places % width
    found = torch.full((count, height, width), math.inf, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            near = ((rows - y).abs() <= radius) & ((columns - x).abs() <= radius)
            if near.sum() >= neighbours:
                pairs = queries[:, y, x, None].double() - patches[near].double()
                squares = pairs.square().sum(-1)
                found[:, y, x] = squares.topk(neighbours, largest=False).values.mean(-1)
    return found


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)


def ragged(grid: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """About three patches a place, but none for some."""
    total = math.prod(grid)
    return vectors(seed, 3 * total), torch.randint(0, total, (3 * total,), generator=draw(seed))


def filled(
    grid: tuple[int, int], radius: int, neighbours: int = 1, seed: int = 0
) -> tuple[WindowedBank, Tensor, Tensor]:
    patches, places = ragged(grid, seed)
    bank = WindowedBank(grid, radius, D, num_neighbors=neighbours)
    bank.fill(patches, places)
    return bank, patches, places


class TestWindowedBank:
    @pytest.mark.parametrize("neighbours", [1, 2, 5])
    @pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 6])
    @pytest.mark.parametrize("grid", GRIDS)
    def test_is_exact_at_every_border(
        self, grid: tuple[int, int], radius: int, neighbours: int
    ) -> None:
        bank, patches, places = filled(grid, radius, neighbours)
        queries = vectors(1, 5, *grid)
        expected = slow(queries, patches, places, radius, neighbours)
        assert_close(bank.search(queries), expected)
        assert torch.equal(bank.reached(), expected[0].isfinite())

    def test_counts_what_is_compared(self) -> None:
        bank, _, places = filled((9, 4), 2)
        y, x = places // 4, places % 4
        near = torch.tensor(
            [
                [int((((y - a).abs() <= 2) & ((x - b).abs() <= 2)).sum()) for b in range(4)]
                for a in range(9)
            ]
        )
        assert torch.equal(bank.within(), near) and bank.compared() == int(near.sum())
        assert len(bank) == len(places) and bank.nbytes == 4 * D * len(places)

    def test_chunks_make_no_difference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        queries = vectors(1, 2, 10, 11)
        whole, *_ = filled((10, 11), 3)
        monkeypatch.setattr("autosearch.memory.windows._CHUNK_BYTES", 1)
        chunked, *_ = filled((10, 11), 3)
        assert len(whole.rows) == 1 < len(chunked.rows)
        torch.testing.assert_close(chunked.search(queries), whole.search(queries))
        monkeypatch.setattr("autosearch.memory.windows._MOST_CHUNKS", 2)
        assert len(filled((10, 11), 3)[0].rows) == 2

    def test_a_place_without_rows_is_answered_for_by_the_nearest(self) -> None:
        patches, places = vectors(0, 3), torch.tensor([0, 1, 5])
        bank = WindowedBank((2, 4), 0, D)
        bank.fill(patches, places)
        queries = vectors(1, 1, 2, 4)
        assert bank.search(queries).isinf().sum() == 5
        scores = bank(queries.flatten(1, 2))[0]
        nearest = [0, 1, 1, 1, 0, 5, 5, 5]
        assert torch.equal(scores, scores[nearest])
        torch.testing.assert_close(scores[places], bank.search(queries).flatten()[places])

    def test_filling_again_forgets(self) -> None:
        queries = vectors(1, 1, 5, 7)
        bank, *_ = filled((5, 7), 1, seed=3)
        patches, places = ragged((5, 7))
        bank.fill(patches, places)
        assert_close(bank.search(queries), slow(queries, patches, places, 1))

    def test_norms_follow_from_rows_that_are_loaded(self) -> None:
        bank, *_ = filled((5, 7), 1)
        queries, other = vectors(1, 1, 5, 7), copy.deepcopy(bank)
        assert set(bank.state_dict()) == {"origin", "rows.0"}
        with torch.no_grad():
            for tensor in (*other.parameters(), other.squares, other.origin):
                tensor.zero_()
        other.load_state_dict(bank.state_dict())
        assert torch.equal(other.search(queries), bank.search(queries))

    @pytest.mark.parametrize(
        ("patches", "places"),
        [
            (torch.zeros(2, D + 1), torch.zeros(2, dtype=torch.int64)),
            (torch.zeros(0, D), torch.zeros(0, dtype=torch.int64)),
            (torch.zeros(2, D), torch.tensor([0, 35])),
            (torch.zeros(2, D), torch.tensor([-1, 0])),
            (torch.zeros(2, D), torch.tensor([0])),
            (torch.full((1, D), math.nan), torch.tensor([0])),
        ],
    )
    def test_what_does_not_fit_is_refused(self, patches: Tensor, places: Tensor) -> None:
        with pytest.raises(ValueError, match=r"patches|places"):
            WindowedBank((5, 7), 1, D).fill(patches, places)

    def test_odd_queries_are_refused(self) -> None:
        bank, *_ = filled((5, 7), 1)
        with pytest.raises(ValueError, match=r"queries are \(1, 7, 5, 6\)"):
            bank.search(torch.zeros(1, 7, 5, D))
        with pytest.raises(ValueError, match="NaN"):
            bank.search(torch.full((1, 5, 7, D), math.inf))
        with pytest.raises(RuntimeError, match="filled"):
            WindowedBank((5, 7), 1, D).search(torch.zeros(1, 5, 7, D))


@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("grid", [(8, 8), (5, 7), (1, 6)])
def test_blocks_hold_every_pair_of_a_window_once(grid: tuple[int, int], radius: int) -> None:
    blocks = Blocks.of(grid, min(radius, max(grid) - 1))
    size, asked = blocks.asked.shape
    for query, cells in enumerate(blocks.cells.tolist()):
        inside = [cell for cell in cells if cell < size * asked * blocks.columns]
        queries = {int(blocks.asked.flatten()[cell // blocks.columns]) for cell in inside}
        assert queries == {query} and len(set(inside)) == len(inside)


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 6])
def test_few_more_pairs_than_those_of_windows_are_compared(radius: int) -> None:
    blocks = Blocks.of((56, 56), radius)
    assert blocks.asked.numel() * blocks.columns <= 1.8 * 56**2 * (2 * radius + 1) ** 2


class TestImageBank:
    @pytest.mark.parametrize("neighbours", [1, 2, 5])
    @pytest.mark.parametrize("radius", [0, 1, 3, 6, None])
    @pytest.mark.parametrize("grid", GRIDS)
    def test_is_exact(self, grid: tuple[int, int], radius: int | None, neighbours: int) -> None:
        total = math.prod(grid)
        images = torch.arange(6).repeat_interleave(total)
        places = torch.arange(total).repeat(6)
        there = torch.rand(len(images), generator=draw(2)) < 0.8
        images, places = images[there], places[there]
        patches, queries = vectors(0, len(images)), vectors(1, 4, *grid)
        alike = torch.stack([torch.randperm(6, generator=draw(i))[:3] for i in range(4)])
        bank = ImageBank(grid, radius, D, 3, num_neighbors=neighbours)
        bank.fill(patches, images, places, 6)
        found = bank.search(queries, alike)
        for number, chosen in enumerate(alike):
            own = torch.isin(images, chosen)
            reach = math.inf if radius is None else radius
            one = queries[number : number + 1]
            expected = slow(one, patches[own], places[own], reach, neighbours)
            assert_close(found[number : number + 1], expected)
            assert not (bank.reached() & ~expected[0].isfinite()).any()
        whole = WindowedBank(grid, max(grid) if radius is None else radius, D)
        whole.fill(patches, places)
        assert bank.compared() == round(whole.compared() / 2)

    @pytest.mark.parametrize(("radius", "neighbours"), [(1, 1), (None, 3)])
    def test_its_graph_does_not_grow_with_images(
        self, radius: int | None, neighbours: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def size(total: int) -> int:
            bank = ImageBank((4, 4), radius, D, total, num_neighbors=neighbours)
            places = torch.arange(16).repeat(total)
            images = torch.arange(total).repeat_interleave(16)
            patches, queries = vectors(0, 16 * total), vectors(1, 3, 4, 4)
            bank.fill(patches, images, places, total)
            asked, alike = queries.flatten(1, 2), torch.arange(total).expand(3, -1)
            expected = slow(queries, patches, places, radius or math.inf, neighbours)
            for count in (1, 3):
                found = bank(asked[:count], alike[:count])
                assert_close(found.view(-1, 4, 4), expected[:count])
            return len(make_fx(bank)(asked, alike).graph.nodes)

        whole = size(5)
        assert whole == size(100)
        monkeypatch.setattr("autosearch.memory.images._STEP_BYTES", 1)
        monkeypatch.setattr("autosearch.memory.images._MOST_STEPS", 3)
        assert whole < size(9) == size(99)

    def test_no_image_has_two_rows_of_a_place(self) -> None:
        patches, images, places = vectors(0, 2), torch.tensor([0, 0]), torch.tensor([1, 1])
        ImageBank((2, 2), None, D, 1).fill(patches, images, places, 1)
        with pytest.raises(ValueError, match="one row"):
            ImageBank((2, 2), 1, D, 1).fill(patches, images, places, 1)

    def test_norms_follow_from_rows_that_are_loaded(self) -> None:
        bank = ImageBank((2, 2), 1, D, 2)
        bank.fill(vectors(0, 7), torch.tensor([0, 0, 0, 0, 1, 1, 1]), torch.arange(7) % 4, 2)
        other, queries = copy.deepcopy(bank), vectors(1, 1, 2, 2)
        with torch.no_grad():
            other.rows.zero_()
            other.squares.zero_()
        other.load_state_dict(bank.state_dict())
        alike = torch.tensor([[0, 1]])
        assert torch.equal(other.search(queries, alike), bank.search(queries, alike))


def test_alike_images_are_the_nearest_by_standardised_features() -> None:
    known = torch.randn(7, 4, generator=draw(0)) * torch.tensor([1.0, 100.0, 1.0, 0.0]) + 50
    asked = known[[2, 5]] + torch.tensor([0.3, 20.0, -0.2, 0.0])
    scale = known.std(0, correction=0).clamp(min=1e-9)
    scale[3] = 1
    distances = ((asked[:, None] - known) / scale).square().sum(-1)
    expected = distances.argsort(1)
    assert torch.equal(AlikeImages(known, 3)(asked), expected[:, :3])
    assert torch.equal(AlikeImages(known, 9)(asked), expected)


def test_stand_ins_are_the_nearest_reached() -> None:
    reached = torch.tensor([[True, False, False], [False, False, True]])
    assert stand_ins(reached).tolist() == [0, 0, 5, 0, 5, 5]
    assert stand_ins(torch.zeros(2, 2, dtype=torch.bool)).tolist() == [0, 1, 2, 3]


class TestThinning:
    THERE = torch.rand(9, 20, generator=draw(0)) < 0.6

    def test_draws_for_each_place_on_its_own(self) -> None:
        kept = draw_at_places(self.THERE, 3, seed=1)
        assert not (kept & ~self.THERE).any()
        assert torch.equal(kept.sum(0), self.THERE.sum(0).clamp(max=3))
        assert len({tuple(column) for column in kept.T.tolist()}) > 10
        assert torch.equal(kept, draw_at_places(self.THERE, 3, seed=1))
        assert not torch.equal(kept, draw_at_places(self.THERE, 3, seed=2))
        assert torch.equal(draw_at_places(self.THERE, 9), self.THERE)

    @pytest.mark.parametrize("count", [1, 3, 20])
    def test_kcenter_is_that_of_each_place(self, count: int) -> None:
        # No place has two: both are as near to their mean.
        places = torch.arange(20).repeat_interleave(torch.tensor([0, 1, 3, 4, 9] * 4))
        places = places[torch.randperm(len(places), generator=draw(3))]
        patches = vectors(0, len(places))
        kept = coreset_at_places(patches, places, count)
        expected = []
        for place in range(20):
            own = (places == place).nonzero()[:, 0]
            if len(own):
                chosen = coreset(patches[own], count=min(count, len(own)))
                expected += own[chosen].tolist()
        assert kept.tolist() == sorted(expected)
