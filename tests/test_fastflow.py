"""FastFlow against dense Jacobians, closed forms and slow loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.fastflow.networks import (
    FastFlow,
    Improbability,
    Step,
    hidden_channels,
    layer_normalised,
)
from autosearch_runners.fastflow.runner import (
    PRESETS,
    FastFlowDetector,
    FastFlowRunner,
    FastFlowSettings,
)
from autosearch_runners.flows.coupling import negative_log_likelihood, scaled, soft_clamp, unscaled
from autosearch_runners.flows.detector import FlowTraining
from autosearch_runners.training import Schedule
from flow_parts import Levels, dense_log_determinant, drawn
from torch import Tensor, nn

from autosearch.backbones import profile
from autosearch.contracts import TrialContext, check_space
from autosearch.errors import ConfigError, Infeasible
from autosearch.graphs import largest_difference, onnx_bytes, onnx_run
from autosearch.metrics import image_scores
from autosearch.spec import Space, parse_spec
from autosearch.testing.images import image_set


def flow_of(*channels: int, steps: int = 3) -> FastFlow:
    return FastFlow(channels, steps, 1.0, 2.0, False, seed=0)


def maps_of(*shapes: tuple[int, int, int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def detector_of(
    size: tuple[int, int] = (16, 16), epochs: int = 2, patience: int | None = None
) -> FastFlowDetector:
    schedule = Schedule(epochs=epochs, batch=4, lr=1e-2, patience=patience)
    network = FastFlowSettings(flow_steps=2)
    context = TrialContext(0, "cpu", size)
    return FastFlowDetector(Levels((4, 6)), network, FlowTraining(schedule, 1e-5), context)


def runner_of(**space: object) -> FastFlowRunner:
    content = {
        "study": {"name": "test", "runner": "fastflow"},
        "space": space or {"lr": [1e-4, 1e-3]},
        "objectives": ["gflops", "rwap"],
        "backbone": {"weights": "random"},
    }
    return FastFlowRunner(parse_spec(content))


def test_the_clamp_is_bounded_and_steady() -> None:
    """Slope 0.636 at 0, which is 3 * 0.636 * pi / 2 < 2.9971 at most for a clamp of 3."""
    values = torch.tensor([-1e9, -1e-3, 0.0, 1e-3, 1e9])
    found = soft_clamp(values, 3.0)
    bound = 3 * 0.636 * np.pi / 2
    assert bound < 2.9971
    torch.testing.assert_close(found, torch.tensor([-bound, -6.36e-4, 0.0, 6.36e-4, bound]))


def test_a_coupling_is_undone() -> None:
    """And its log-determinant is the sum of logarithms of what it scales by."""
    maps, coefficients = maps_of((2, 3, 4, 5), (2, 6, 4, 5))
    moved, log_determinant = scaled(maps, coefficients, 2.0)
    torch.testing.assert_close(unscaled(moved, coefficients, 2.0), maps)
    factors = (moved - coefficients[:, 3:]) / maps
    torch.testing.assert_close(log_determinant, factors.log().sum(dim=1), rtol=1e-3, atol=1e-4)


def test_the_loss_sums_numbers_and_means_images() -> None:
    """Half of (1 + 4) less 3 in the first image, half of 9 less 1 in the second."""
    latent = [torch.tensor([[[[1.0, 2.0]]], [[[3.0, 0.0]]]])]
    log_determinants = [torch.tensor([[[3.0, 0.0]], [[1.0, 0.0]]])]
    loss = negative_log_likelihood(latent, log_determinants)
    assert loss.item() == pytest.approx(((5 / 2 - 3) + (9 / 2 - 1)) / 2)
    counted = [torch.tensor([[[False, True]], [[True, False]]])]
    loss = negative_log_likelihood(latent, log_determinants, counted)
    assert loss.item() == pytest.approx((4 / 2 + 9 / 2 - 1) / 2)


def test_a_flow_is_undone() -> None:
    """Up to the normalised maps, for any widths, odd ones too."""
    flow = drawn(flow_of(4, 7, steps=5))
    maps = maps_of((2, 4, 6, 8), (2, 7, 3, 4))
    with torch.no_grad():
        restored = flow.inverse(flow(maps)[0])
    for one, expected in zip(restored, map(layer_normalised, maps), strict=True):
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-4)


def test_log_determinants_are_those_of_the_jacobian() -> None:
    """Of the way back the negative, which leaves the normalisation out."""
    flow = drawn(flow_of(5)).double()
    (maps,) = maps_of((1, 5, 2, 3))
    latent, (log_determinant,) = flow([maps.double()])
    expected = -dense_log_determinant(flow.inverse, latent)
    torch.testing.assert_close(log_determinant.sum(), expected)
    assert expected.abs() > 0.1


def test_an_untrained_flow_permutes_normalised_maps() -> None:
    """The loss is half of all numbers then, whose variance the normalisation made 1."""
    flow = flow_of(4, 6)
    maps = [10 * one + 3 for one in maps_of((2, 4, 8, 8), (2, 6, 4, 4))]
    latent, log_determinants = flow(maps)
    for z, one in zip(latent, maps, strict=True):
        torch.testing.assert_close(z.sort(dim=1)[0], layer_normalised(one).sort(dim=1)[0])
        assert not torch.equal(z, layer_normalised(one))
    loss = negative_log_likelihood(latent, log_determinants)
    assert loss.item() == pytest.approx((4 * 64 + 6 * 16) / 2, rel=1e-4)


def test_maps_are_normalised_as_a_whole() -> None:
    """Mean 0 and variance 1 over channels, rows and columns of each image."""
    (maps,) = maps_of((3, 4, 5, 6))
    mean = maps.mean(dim=(1, 2, 3), keepdim=True)
    std = maps.std(dim=(1, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(layer_normalised(maps), (maps - mean) / std, rtol=1e-4, atol=1e-4)


def test_kernels_alternate_unless_asked_otherwise() -> None:
    """3 x 3 comes first; a kernel of 1 sees one cell alone."""

    def kernels(only_3x3: bool) -> list[int]:
        (level,) = FastFlow([4], 4, 1.0, 2.0, only_3x3, 0).levels
        convolutions = [m for m in level.modules() if isinstance(m, nn.Conv2d)]
        return [convolution.kernel_size[0] for convolution in convolutions]

    assert kernels(True) == [3] * 8
    assert kernels(False) == [3, 3, 1, 1, 3, 3, 1, 1]


def test_flops_are_those_counted_by_hand() -> None:
    """Two convolutions and an activation a step, on the grid of each level."""
    step = Step(7, 3, hidden_channels(7, 0.5), 2.0, np.random.default_rng(0))
    cells, read, hidden, made = 4 * 5, 3, 2, 2 * 4
    macs = cells * 9 * (read * hidden + hidden * made)
    found = profile(step, (1, 7, 4, 5))
    assert found.macs == macs
    assert found.flops == 2 * macs + cells * (hidden + made) + cells * hidden


def test_maps_are_those_of_a_slow_loop() -> None:
    """Minus exp of the mean log density of a cell, enlarged, and the mean of two levels."""
    latent = maps_of((2, 4, 4, 6), (2, 8, 2, 3))
    expected = torch.zeros(2, 16, 24)
    for z in latent:
        cells = torch.zeros(2, *z.shape[2:])
        for image, row, column in np.ndindex(*cells.shape):
            numbers = z[image, :, row, column].tolist()
            cells[image, row, column] = -np.exp(np.mean([-(x**2) / 2 for x in numbers]))
        larger = F.interpolate(cells[:, None], (16, 24), mode="bilinear", align_corners=False)
        expected += larger[:, 0] / 2
    found = Improbability([(4, 6), (2, 3)], (16, 24))(latent)
    torch.testing.assert_close(found, expected)
    assert found.min() >= -1 and found.max() <= 0


def test_training_makes_normal_images_likelier() -> None:
    """The loss falls from half of all numbers, and an unseen pattern is less likely."""
    detector = detector_of(epochs=30)
    normal = image_set(16, 6, 0, seed=0)
    detector.fit(normal)
    curve = detector._training.curve
    (losses,) = zip(*(one.values() for one in curve), strict=True)
    assert losses[0] <= (4 * 64 + 6 * 16) / 2 and losses[-1] < 0.7 * losses[0]
    asked = torch.from_numpy(normal.pixels[:1].copy())
    odd = asked.clone()
    odd[..., :8, :8] = 1 - odd[..., :8, :8].flip(-1)
    maps = detector.anomaly_maps(torch.cat([asked, odd]))
    assert maps[1, :8, :8].mean() > maps[0, :8, :8].mean()


def test_an_exported_graph_gives_the_same_maps() -> None:
    """For one image and for three, of a rectangle."""
    size = (16, 20)
    detector = detector_of(size, epochs=1)
    detector.fit(image_set(size, 3, 0, seed=0))
    graph = onnx_run(onnx_bytes(detector.module(), size), threads=1)
    asked = image_set(size, 3, 0, seed=1).pixels
    expected = detector.anomaly_maps(torch.from_numpy(asked)).numpy()
    for count in (1, 3):
        maps, scores = graph(asked[:count])
        assert largest_difference(expected[:count], maps) < 1e-4
        np.testing.assert_allclose(
            scores, image_scores(expected[:count], detector.top_share), rtol=1e-4
        )


def test_sides_must_be_multiples_of_the_coarsest_cells() -> None:
    """It is told when the detector is made."""
    with pytest.raises(Infeasible, match="multiples of 4"):
        detector_of((16, 18))
    assert detector_of((16, 20)).cost().flops > detector_of().cost().flops


def test_images_without_a_cell_that_counts_are_refused() -> None:
    """There is nothing to learn from."""
    images = image_set(16, 2, 0, seed=0)
    with pytest.raises(Infeasible, match="no training image"):
        detector_of().fit(replace(images, valid=np.zeros(images.masks.shape, dtype=bool)))


def test_memory_grows_with_images_up_to_its_bound() -> None:
    """Kept maps in single precision."""
    detector = detector_of()
    assert detector.memory(200) - detector.memory(100) == 100 * 4 * (4 * 64 + 6 * 16)
    assert detector.memory(10**9) < detector.memory(10**6)


def test_presets_are_the_published_ones() -> None:
    """What they say is what remains, and written out it stays; both are the same."""
    runner = runner_of()
    own = {"backbone": "tf_efficientnet_lite0"}
    for name, table in PRESETS.items():
        found = runner.canonical({"preset": name, **own})
        assert found == {**table, **own}
        assert runner.canonical(found) == found
    assert PRESETS["miad"]["epochs"] == 500 and PRESETS["miad"]["batch"] == 32
    assert PRESETS["miad"]["lr"] == 1e-3 and PRESETS["miad"]["weight_decay"] == 1e-5
    assert PRESETS["miad"]["flow_steps"] == 8 and PRESETS["miad"]["layers"] == "1+2+3"
    check_space(Space.parse({k: [v] for k, v in PRESETS["miad"].items()}), runner.parameters, "")
    assert "preset" not in runner.canonical({})


def test_a_single_step_has_no_second_kernel() -> None:
    """What it would be has no effect."""
    runner = runner_of()
    found = [runner.canonical({"flow_steps": 1, "conv3x3_only": on}) for on in (True, False)]
    assert found[0] == found[1]


def test_what_cannot_be_is_refused() -> None:
    """Numbers out of range."""
    with pytest.raises(ConfigError, match="flow_steps"):
        check_space(Space.parse({"flow_steps": [0]}), runner_of().parameters, "fastflow")
