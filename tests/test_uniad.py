"""UniAD's parts: masks, attention, layers, noise, loss, maps, and what they cost."""

import math

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.frozen_maps import KeptMaps
from autosearch_runners.uniad.attention import Attention, neighbour_mask
from autosearch_runners.uniad.detector import channel_spread, features_loss
from autosearch_runners.uniad.maps import (
    AlignedMaps,
    ChannelScale,
    PooledSpreading,
    UniADMaps,
    differences,
    grid_of,
)
from autosearch_runners.uniad.reconstruction import (
    DecoderLayer,
    EncoderLayer,
    Position,
    Reconstruction,
    TransformerSettings,
    jitter,
)
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor, FeatureInfo, TimmBackbone, profile
from autosearch.errors import Infeasible
from autosearch.graphs import onnx_bytes

TINY = TransformerSettings(
    hidden=8,
    heads=2,
    encoder_layers=2,
    decoder_layers=1,
    feedforward=12,
    neighbour_mask=3,
    jitter_scale=0.0,
)


def test_a_cell_looks_at_none_of_its_neighbours() -> None:
    """49 are forbidden in the interior of the published grid, 16 at its corners."""
    forbidden = ~neighbour_mask((14, 14), 7)
    counts = forbidden.sum(dim=1).view(14, 14)
    assert counts[3:11, 3:11].eq(49).all()
    assert counts[[0, 0, 13, 13], [0, 13, 0, 13]].tolist() == [16] * 4
    assert torch.equal(forbidden, forbidden.T) and forbidden.diagonal().all()


@pytest.mark.parametrize("side", [1, 3, 5])
def test_the_mask_is_that_of_a_slow_oracle(side: int) -> None:
    """Row by row on a grid that is not square."""
    height, width, reach = 4, 7, side // 2
    allowed = neighbour_mask((height, width), side)
    for one in range(height * width):
        for other in range(height * width):
            rows, columns = abs(one // width - other // width), abs(one % width - other % width)
            assert allowed[one, other].item() == (rows > reach or columns > reach)


@pytest.mark.parametrize(("grid", "fits"), [((7, 7), False), ((7, 8), True), ((3, 8), True)])
def test_a_mask_that_leaves_a_cell_nothing_is_refused(grid: tuple[int, int], fits: bool) -> None:
    """7 rows and columns are all within 3 of the middle one."""
    if fits:
        assert neighbour_mask(grid, 7).any(dim=1).all()
        return
    with pytest.raises(Infeasible, match="neighbour_mask of 7 covers the grid of 7 x 7"):
        neighbour_mask(grid, 7)


def test_attention_is_that_of_a_slow_oracle() -> None:
    """Softmax over what is allowed, head by head."""
    torch.manual_seed(0)
    attention, (heads, part) = Attention(6, 2, 0.5).eval(), (2, 3)
    query, key, value = (torch.randn(1, 6, 6) for _ in range(3))
    allowed = neighbour_mask((2, 3), 1)
    q, k, v = attention.query(query)[0], attention.key(key)[0], attention.value(value)[0]
    q, k, v, means = q.detach(), k.detach(), v.detach(), torch.zeros(6, 6)
    for head in range(heads):
        own = slice(head * part, (head + 1) * part)
        for row in range(6):
            others = [other for other in range(6) if allowed[row, other]]
            weights = [math.exp(q[row, own] @ k[other, own] / math.sqrt(part)) for other in others]
            for weight, other in zip(weights, others, strict=True):
                means[row, own] += weight / sum(weights) * v[other, own]
    found = attention(query, key, value, allowed)
    torch.testing.assert_close(found[0], attention.out(means), rtol=1e-5, atol=1e-6)


def test_an_encoder_layer_is_that_of_torch() -> None:
    """Where all places are alike."""
    torch.manual_seed(0)
    ours, allowed = EncoderLayer(TINY).eval(), neighbour_mask((2, 3), 1)
    theirs = nn.TransformerEncoderLayer(8, 2, 12, 0.1, batch_first=True).eval()
    attention = ours.attention
    packed = [attention.query, attention.key, attention.value]
    state = {
        "self_attn.in_proj_weight": torch.cat([one.weight for one in packed]),
        "self_attn.in_proj_bias": torch.cat([one.bias for one in packed]),
    }
    pairs = {
        "self_attn.out_proj": attention.out,
        "linear1": ours.feedforward[0],
        "linear2": ours.feedforward[3],
        "norm1": ours.norms[0],
        "norm2": ours.norms[1],
    }
    for name, layer in pairs.items():
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
        state |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    theirs.load_state_dict(state)
    tokens = torch.randn(3, 6, 8)
    found = ours(tokens, torch.zeros(6, 8), allowed)
    torch.testing.assert_close(found, theirs(tokens, ~allowed), rtol=1e-4, atol=1e-5)


def test_a_decoder_layer_looks_at_the_encoder_then_at_the_layer_before() -> None:
    """Its tokens begin as its queries; places are added to what finds, not to what is seen."""
    torch.manual_seed(0)
    layer, allowed = DecoderLayer(6, TINY).eval(), neighbour_mask((2, 3), 1)
    previous, memory, position = torch.randn(2, 6, 8), torch.randn(2, 6, 8), torch.randn(6, 8)

    def normed(tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens, (8,))

    tokens = layer.queries + torch.zeros(2, 1, 1)
    at_memory = layer.to_memory(tokens + position, memory + position, memory, allowed)
    tokens = normed(tokens + at_memory)
    at_previous = layer.to_previous(tokens + position, previous + position, previous, allowed)
    tokens = normed(tokens + at_previous)
    expected = normed(tokens + layer.feedforward(tokens))
    torch.testing.assert_close(layer(previous, memory, position, allowed), expected)


def test_nothing_passes_that_was_not_looked_for() -> None:
    """Decoders whose attentions see nothing make the same of all features."""
    network = Reconstruction(5, (4, 4), TINY).eval()
    first, second = torch.randn(2, 1, 5, 4, 4).unbind(0)
    assert not torch.allclose(network(first), network(second))
    for layer in network.decoder:
        for attention in (layer.to_memory, layer.to_previous):
            nn.init.zeros_(attention.out.weight)
    assert torch.equal(network(first), network(second))


def test_places_have_a_half_for_columns_and_one_for_rows() -> None:
    """On a rectangle, row by row."""
    position = Position((2, 3), 4)
    found = position()
    for row in range(2):
        for column in range(3):
            expected = torch.cat([position.columns[column], position.rows[row]])
            assert torch.equal(found[3 * row + column], expected)
    assert position.rows.min() >= 0 and position.rows.max() <= 1


def test_noise_is_in_proportion_to_norm_by_channels() -> None:
    """Of the same numbers, token by token."""
    tokens = torch.tensor([[[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    torch.manual_seed(3)
    found = jitter(tokens, 20.0)
    torch.manual_seed(3)
    noise = torch.randn(1, 2, 4)
    torch.testing.assert_close(found[0, 0], tokens[0, 0] + noise[0, 0] * 20 * 5 / 4)
    assert torch.equal(found[0, 1], tokens[0, 1])


@pytest.mark.parametrize(("scale", "probability"), [(0.0, 1.0), (20.0, 0.0), (20.0, 1.0)])
def test_noise_comes_in_training_alone(scale: float, probability: float) -> None:
    """And with its probability."""
    settings = TransformerSettings(
        8, 2, 1, 1, 8, 0.0, None, jitter_scale=scale, jitter_probability=probability
    )
    network, features = Reconstruction(5, (3, 3), settings), torch.randn(2, 5, 3, 3)
    once, again = (network.train()(features) for _ in range(2))
    assert torch.equal(once, again) == (not scale or not probability)
    assert torch.equal(network.eval()(features), network(features))


def test_noise_comes_as_often_as_asked() -> None:
    """Batches are drawn, not images."""
    settings = TransformerSettings(8, 2, 1, 1, 8, 0.0, None, 20.0, 0.25)
    network, tokens = Reconstruction(3, (1, 2), settings), torch.ones(1, 2, 3)
    torch.manual_seed(0)
    jittered = [not torch.equal(network._jittered(tokens), tokens) for _ in range(400)]
    assert np.mean(jittered) == pytest.approx(0.25, abs=0.06)


def test_the_loss_is_the_mean_squared_error_of_cells_that_count() -> None:
    """All numbers of a cell have the same share."""
    features, made = torch.zeros(1, 2, 1, 2), torch.tensor([[[[1.0, 5.0]], [[3.0, 5.0]]]])
    assert features_loss(features, made, None).item() == pytest.approx((1 + 9 + 25 + 25) / 4)
    counted = torch.tensor([[[True, False]]])
    assert features_loss(features, made, counted).item() == pytest.approx(5)
    assert features_loss(features, made, ~counted & False).item() == 0


@pytest.mark.parametrize("side", [1, 2, 5, 16, 40])
def test_maps_are_resized_distances_whose_highest_is_that_of_pooled_ones(side: int) -> None:
    """The published score of an image: the largest mean over a square within it."""
    torch.manual_seed(0)
    features, made = torch.randn(2, 3, 2, 3), torch.randn(2, 3, 2, 3)
    scores = differences(features, made)
    for image in range(2):
        for row in range(2):
            for column in range(3):
                there = (features - made)[image, :, row, column].tolist()
                expected = math.sqrt(sum(value**2 for value in there))
                assert scores[image, row, column].item() == pytest.approx(expected)
    maps = PooledSpreading((2, 3), (32, 48), side)(scores)
    plain = F.interpolate(scores[:, None], (32, 48), mode="bilinear")
    window = (min(side, 32), min(side, 48))
    pooled = F.avg_pool2d(plain, window, stride=1)
    torch.testing.assert_close(maps.amax((1, 2)), pooled.amax((1, 2, 3)))
    top, left = window[0] // 2, window[1] // 2
    inner = maps[:, top : top + pooled.shape[2], left : left + pooled.shape[3]]
    torch.testing.assert_close(inner, pooled[:, 0])


class Levels(FeatureExtractor):
    """Means of 2 x 2 and of 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = (FeatureInfo(0, 3, 2, "fine"), FeatureInfo(1, 3, 8, "coarse"))
        self.mean, self.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(images, 2), F.avg_pool2d(images, 8)]


def test_levels_lie_on_one_grid_one_behind_the_other() -> None:
    """And cells stay where they are: of a ramp each has the value of its centre."""
    ramp = torch.arange(32.0).expand(1, 3, 16, 32) / 32
    maps = AlignedMaps(Levels(), (4, 8))
    (found,) = maps(ramp)
    assert maps.channels == (6,) and found.shape == (1, 6, 4, 8)
    centres = (torch.arange(8) * 4 + 1.5) / 32
    torch.testing.assert_close(found[0, 0, 0], centres)
    torch.testing.assert_close(found[0, 3, 0, 1:-1], centres[1:-1])


@pytest.mark.parametrize("counts", [True, False])
def test_channels_are_brought_to_one_spread(counts: bool) -> None:
    """Over all cells that count, also of more images than are summed together."""
    images = torch.rand(70, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, 1] *= 50
    images[:, 2] = 0.25
    valid = None if counts else np.ones((70, 16, 16), dtype=bool)
    if valid is not None:
        valid[:, :, 8:] = False
    kept = KeptMaps(AlignedMaps(Levels(), (4, 4)), images, "cpu", valid)
    scale = ChannelScale(6)
    assert torch.equal(scale(images.repeat(1, 2, 1, 1)), images.repeat(1, 2, 1, 1))
    scale.set(*channel_spread(kept, 70))
    (features,) = kept[np.arange(70)]
    scaled = scale(features)[..., : 4 if counts else 2]
    for channel in (0, 1, 3, 4):
        assert scaled[:, channel].mean().item() == pytest.approx(0, abs=1e-5)
        assert scaled[:, channel].std(correction=0).item() == pytest.approx(1, rel=1e-4)
    assert scaled[:, [2, 5]].abs().max() < 1e-6


def test_the_published_levels_have_272_channels_on_14_by_14_cells() -> None:
    """EfficientNet-B4's first four of timm."""
    backbone = TimmBackbone("tf_efficientnet_b4.aa_in1k", (0, 1, 2, 3))
    assert [info.channels for info in backbone.feature_info] == [24, 32, 56, 160]
    maps = AlignedMaps(backbone, grid_of((224, 224), 16, backbone))
    assert maps.channels == (272,) and maps._grid == (14, 14)


@pytest.mark.parametrize(
    ("size", "stride", "multiple"), [((32, 40), 16, 16), ((36, 32), 4, 8), ((30, 30), 16, 16)]
)
def test_images_must_divide_into_cells(size, stride, multiple) -> None:
    """Of the grid, and of the coarsest level."""
    with pytest.raises(Infeasible, match=f"multiples of {multiple} do"):
        grid_of(size, stride, Levels())


def test_the_graph_computes_the_same() -> None:
    """For any number of images that are not square."""
    torch.manual_seed(0)
    features, network = AlignedMaps(Levels(), (4, 6)), Reconstruction(6, (4, 6), TINY)
    scale, spreading = ChannelScale(6), PooledSpreading((4, 6), (16, 24), 3)
    scale.set(torch.rand(6), 0.5 + torch.rand(6))
    module = UniADMaps(features, scale, network, spreading).eval()
    session = onnxruntime.InferenceSession(
        onnx_bytes(module, (16, 24)), providers=["CPUExecutionProvider"]
    )
    images = torch.rand(3, 3, 16, 24)
    for count in (1, 3):
        with torch.no_grad():
            expected = module(images[:count]).numpy()
        maps, scores = session.run(None, {"images": images[:count].numpy()})
        assert np.abs(maps - expected).max() <= 1e-4 * expected.max()
        np.testing.assert_array_equal(scores, maps.max((1, 2)))


def test_what_the_transformer_costs() -> None:
    """Every product and number by hand."""
    network, (cells, hidden, channels) = Reconstruction(5, (4, 4), TINY), (16, 8, 5)

    def linear(inputs: int, outputs: int) -> int:
        return cells * outputs * (2 * inputs + 1)

    attention = 4 * linear(hidden, hidden)
    behind = linear(hidden, 12) + 12 * cells + linear(12, hidden)
    encoder, decoder = attention + behind, 2 * attention + behind
    layers = linear(channels, hidden) + 2 * encoder + decoder + linear(hidden, channels)
    seen = profile(network, (1, 5, 4, 4))
    # Two encoder layers with an attention each, a decoder layer with two.
    products = (2 + 2) * 2 * cells * cells * hidden
    assert seen.flops == layers + 2 * products
    # What is left are norms, and modules whose own weights are looked up alone.
    assert set(seen.uncounted) == {"DecoderLayer", "LayerNorm", "Position"}
    # Two encoder layers with two norms each, a decoder layer with three, and the last.
    assert network.norm_flops() == (2 * 2 + 3 + 1) * 2 * cells * hidden
