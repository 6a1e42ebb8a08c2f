"""GLASS's training against the loop as written down, and what it must keep to."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.glass.feature_synthesis import AscentSettings
from autosearch_runners.glass.networks import Discriminator, make_adaptor
from autosearch_runners.glass.training import NormalVectors, Trainer, TrainingSettings
from torch import Tensor, nn

CHANNELS, CELLS, IMAGES = 16, 9, 5
FLOATS = IMAGES * CELLS * CHANNELS
ASCENT = AscentSettings(noise_std=0.02, steps=6, rate=0.01, project_every=2)
SMALL = TrainingSettings(ascent=ASCENT, lr=1e-2, batch=2, epochs=2)


def images(count: int = IMAGES) -> Tensor:
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(5))


def embed(pixels: Tensor) -> Tensor:
    """A frozen backbone: patches of 2 x 2 pixels through a fixed random map, ``(B, 9, 16)``."""
    weights = torch.randn(12, CHANNELS, generator=torch.Generator().manual_seed(9)) / 4
    return F.unfold(pixels, 2, stride=2).transpose(1, 2) @ weights


def synthesise(index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    pixels = images()[index].numpy().copy()
    row, column = rng.integers(3, size=2)
    pixels[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = rng.random((3, 2, 2))
    cells = np.zeros((3, 3), dtype=bool)
    cells[row, column] = True
    return pixels, cells


def networks() -> tuple[nn.Sequential, Discriminator]:
    generator = torch.Generator().manual_seed(0)
    return make_adaptor(CHANNELS, 1, generator), Discriminator(CHANNELS, 8, generator)


def run(trainer: Trainer, anomalies=synthesise, cache_bytes=1 << 20):
    for _ in trainer.run(NormalVectors(embed, images(), cache_bytes), embed, anomalies):
        pass
    return trainer.curve


def trained(settings=SMALL, hypothesis="manifold", seed=0, **options):
    adaptor, discriminator = networks()
    curve = run(Trainer(adaptor, discriminator, hypothesis, settings, seed), **options)
    return curve, adaptor, discriminator


def state(*modules: nn.Module) -> list[Tensor]:
    return [tensor.clone() for module in modules for tensor in module.state_dict().values()]


def clamp_norms(h: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return h * (h.norm(dim=1).clamp(low, high) / (h.norm(dim=1) + 1e-10))[:, None]


def written_down(hypothesis: str, settings: TrainingSettings, seed: int, batch: np.ndarray):
    """The first step of section B.i, line by line, with automatic differentiation throughout."""
    adaptor, d = networks()
    optimisers = [
        torch.optim.Adam(adaptor.parameters(), lr=settings.lr, weight_decay=1e-5),
        torch.optim.AdamW(d.parameters(), lr=2 * settings.lr, weight_decay=0.01),
    ]
    ascent, made = settings.ascent, []
    for index in batch:
        made.append(synthesise(int(index), np.random.default_rng((seed, 0, int(index) + 1))))
    u = adaptor(embed(images()[batch])).flatten(0, 1)
    f = adaptor(embed(torch.from_numpy(np.stack([pixels for pixels, _ in made])))).flatten(0, 1)
    m = torch.from_numpy(np.stack([cells for _, cells in made])).flatten()
    with torch.no_grad():
        c = adaptor(embed(images())).mean(dim=0).repeat(len(batch), 1)
    r = torch.quantile(torch.cat([(u - c).norm(dim=1), (f - c)[~m].norm(dim=1)]).detach(), 0.75)
    if hypothesis == "manifold":
        r = torch.tensor(ascent.manifold_radius)
    noise = torch.empty_like(u).normal_(
        0, ascent.noise_std * (1536 / CHANNELS) ** 0.5, generator=torch.Generator().manual_seed(1)
    )
    g = u + noise
    for step in range(ascent.steps + 1):
        s = torch.sigmoid(d(torch.cat([u, g])))
        normal = F.binary_cross_entropy(s[: len(u)], torch.zeros(len(u)))
        gas = F.binary_cross_entropy(s[len(u) :], torch.ones(len(u)))
        if step == ascent.steps:
            break
        (slope,) = torch.autograd.grad(gas, g, retain_graph=True)
        g = g + ascent.rate * slope / (slope.norm(dim=1, keepdim=True) + 1e-10)
        if (step + 1) % ascent.project_every == 0:
            anchor = u if hypothesis == "manifold" else c
            g = anchor + clamp_norms(g - anchor, r, 2 * r)
    if hypothesis == "hypersphere":
        f = torch.where(m[:, None], c + clamp_norms(f - c, 2 * r, 4 * r), f)
    s, t = torch.sigmoid(d(f)), m.float()
    hard = (s - t) ** 2 >= torch.quantile(((s - t) ** 2).detach(), settings.ohem_quantile)
    right = torch.where(t[hard] == 1, s[hard], 1 - s[hard])
    las = ((1 - right) ** 2 * -right.log()).mean()
    (normal + gas + las).backward()
    for optimiser in optimisers:
        optimiser.step()
    return [normal.item(), gas.item(), las.item()], state(adaptor, d)


@pytest.mark.parametrize("hypothesis", ["manifold", "hypersphere"])
def test_a_step_is_the_one_written_down(hypothesis) -> None:
    settings = TrainingSettings(ascent=ASCENT, lr=1e-3, batch=5, epochs=1)
    (losses,), adaptor, discriminator = trained(settings, hypothesis)
    order = np.random.default_rng((0, 0, 0)).permutation(IMAGES)
    expected, after = written_down(hypothesis, settings, 0, order)
    assert [losses.normal, losses.feature, losses.image] == pytest.approx(expected, rel=2e-4)
    assert losses.total == pytest.approx(sum(expected), rel=2e-4)
    found = state(adaptor, discriminator)
    # The norm takes the bias before it away: its gradient is rounding, which Adam blows up.
    without_effect = 2 + [name for name, _ in discriminator.named_parameters()].index("first.bias")
    del found[without_effect], after[without_effect]
    for ours, wanted in zip(found, after, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-5)
    # 6 ascents, the last look at both, and the synthetic images.
    assert discriminator.norm.num_batches_tracked == 8


def test_discriminator_looks_22_times_a_step_at_the_published_setting() -> None:
    _, _, discriminator = trained(TrainingSettings(batch=5, epochs=1))
    assert discriminator.norm.num_batches_tracked == 22


def test_everything_ends_in_its_shell_around_the_centres() -> None:
    adaptor, discriminator = networks()
    settings = TrainingSettings(ascent=ASCENT, batch=IMAGES, epochs=1, lr=1e-9)
    seen: list[Tensor] = []
    discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    cells: list[np.ndarray] = []

    def noted(index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        made = synthesise(index, rng)
        cells.append(made[1])
        return made

    with torch.no_grad():
        centres = adaptor(embed(images())).mean(dim=0).repeat(IMAGES, 1)
    run(Trainer(adaptor, discriminator, "hypersphere", settings, 0), noted)
    both, synthetic = seen
    masked = torch.from_numpy(np.stack(cells)).flatten()
    normal, made = both.split(len(centres))
    distances = torch.cat(
        [(normal - centres).norm(dim=1), (synthetic - centres)[~masked].norm(dim=1)]
    )
    radius = torch.quantile(distances, 0.75)
    assert (distances <= radius).float().mean() == pytest.approx(0.75, abs=0.02)
    for vectors, low in (((made - centres), radius), ((synthetic - centres)[masked], 2 * radius)):
        norms = vectors.norm(dim=1)
        assert (norms >= low * (1 - 1e-4)).all() and (norms <= 2 * low * (1 + 1e-4)).all()


def test_equal_seeds_train_the_same_networks() -> None:
    first, same, other = (trained(seed=seed) for seed in (3, 3, 4))
    assert first[0] == same[0] != other[0]
    for a, b in zip(state(*first[1:]), state(*same[1:]), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("hypothesis", ["manifold", "hypersphere"])
def test_features_computed_once_give_the_curve_of_features_computed_at_every_step(
    hypothesis,
) -> None:
    settings = TrainingSettings(ascent=ASCENT, lr=1e-2, batch=2, epochs=4)
    curves = []
    for cache_bytes in (0, 2 * FLOATS, 4 * FLOATS):
        curve, *_ = trained(settings, hypothesis, cache_bytes=cache_bytes)
        curves.append([losses.total for losses in curve])
    never, half, once = curves
    assert once == pytest.approx(never, rel=1e-5)
    assert half == pytest.approx(never, rel=1e-2) and half != once


def test_backbone_sees_normal_images_once_where_they_are_kept() -> None:
    calls = []

    def counted(pixels: Tensor) -> Tensor:
        calls.append(len(pixels))
        return embed(pixels)

    def shown(cache_bytes: int) -> int:
        calls.clear()
        trainer = Trainer(*networks(), "manifold", TrainingSettings(ascent=ASCENT, epochs=3), 0)
        list(trainer.run(NormalVectors(counted, images(), cache_bytes), counted, None))
        return sum(calls)

    # One more image tells how large its vectors are.
    assert shown(1 << 20) == IMAGES + 1
    assert shown(0) == 3 * IMAGES + 1


def test_vectors_that_half_precision_cannot_hold_are_not_kept() -> None:
    def large(pixels: Tensor) -> Tensor:
        return embed(pixels) * 1e6

    vectors = NormalVectors(large, images(), 2 * FLOATS)
    indices = np.array([1, 3])
    torch.testing.assert_close(vectors[indices], large(images()[indices]))


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_every_image_counts_the_same_in_the_centres(cache_bytes) -> None:
    vectors = NormalVectors(embed, images(), cache_bytes)
    expected = embed(images()).mean(dim=0)
    torch.testing.assert_close(vectors.mean("location"), expected)
    torch.testing.assert_close(vectors.mean("global"), expected.mean(dim=0, keepdim=True))


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_spread_is_that_of_all_vectors_around_their_mean(cache_bytes) -> None:
    vectors = embed(images()).flatten(0, 1)
    expected = (vectors - vectors.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()
    assert NormalVectors(embed, images(), cache_bytes).spread() == pytest.approx(expected)


def test_the_kind_of_centre_matters_to_hyperspheres_alone() -> None:
    local, whole = (
        TrainingSettings(ascent=ASCENT, epochs=1, center=c) for c in ("location", "global")
    )
    assert trained(local)[0] == trained(whole)[0]
    assert trained(local, "hypersphere")[0] != trained(whole, "hypersphere")[0]


def test_an_epoch_ends_with_the_batch_that_exceeds_its_images() -> None:
    seen: list[int] = []

    def noted(index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        seen.append(index)
        return synthesise(index, rng)

    for limit, expected in ((1, 2), (2, 4), (3, 4), (4, 5), (99, 5)):
        seen.clear()
        settings = TrainingSettings(ascent=ASCENT, batch=2, epochs=1, images_per_epoch=limit)
        trained(settings, anomalies=noted)
        assert len(seen) == len(set(seen)) == expected, limit


def test_images_are_synthesised_anew_in_every_epoch_and_whatever_the_batches() -> None:
    def draws(batch: int, epochs: int) -> dict[tuple[int, int], float]:
        found: dict[tuple[int, int], float] = {}
        visits = itertools.count()

        def noted(index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            found[next(visits) // IMAGES, index] = rng.random()
            return synthesise(index, rng)

        trained(TrainingSettings(ascent=ASCENT, batch=batch, epochs=epochs), anomalies=noted)
        return found

    two = draws(2, epochs=2)
    assert draws(5, epochs=2) == two
    assert len(set(two.values())) == 2 * IMAGES


def test_parts_that_are_off_have_no_loss() -> None:
    no_gas = TrainingSettings(use_gas=False, epochs=1)
    (losses,), *_ = trained(no_gas)
    assert losses.feature == 0 and losses.normal > 0 and losses.image > 0
    losses = trained(SMALL, anomalies=None)[0][0]
    assert losses.image == 0 and losses.normal > 0 and losses.feature > 0


def test_without_ascent_plain_noise_remains() -> None:
    plain = TrainingSettings(ascent=AscentSettings(steps=0), batch=5, epochs=1)
    _, _, discriminator = trained(plain)
    assert discriminator.norm.num_batches_tracked == 2


def test_networks_without_an_adaptor_train() -> None:
    _, discriminator = networks()
    before = state(discriminator)
    run(Trainer(nn.Sequential(), discriminator, "manifold", SMALL, 0))
    assert not torch.equal(before[0], state(discriminator)[0])


def test_pauses_tell_how_much_is_done_and_disturb_nothing() -> None:
    settings = TrainingSettings(ascent=AscentSettings(steps=0), epochs=45, batch=5)
    trainer, fractions = Trainer(*networks(), "manifold", settings, 0), []
    for fraction in trainer.run(NormalVectors(embed, images(), 1 << 20), embed, synthesise):
        fractions.append(fraction)
        assert len(trainer.curve) == round(45 * fraction)
        torch.rand(3)
    assert fractions == pytest.approx([i * 3 / 45 for i in range(1, 15)])
    assert trainer.curve == trained(settings)[0] and len(trainer.curve) == 45


def test_a_single_epoch_has_no_pause() -> None:
    settings = TrainingSettings(ascent=ASCENT, epochs=1)
    trainer = Trainer(*networks(), "manifold", settings, 0)
    assert list(trainer.run(NormalVectors(embed, images(), 0), embed, None)) == []
    assert len(trainer.curve) == 1


def test_a_training_can_be_left_in_a_pause() -> None:
    adaptor, discriminator = networks()
    trainer = Trainer(adaptor, discriminator, "manifold", SMALL, 0)
    training = trainer.run(NormalVectors(embed, images(), 1 << 20), embed, synthesise)
    assert next(training) == 0.5
    training.close()
    assert trainer.curve == trained()[0][:1]


def test_a_diverging_training_says_so() -> None:
    infinite = NormalVectors(lambda pixels: embed(pixels) / 0, images(), 0)
    with pytest.raises(ArithmeticError, match="no finite loss in epoch 1"):
        list(Trainer(*networks(), "manifold", SMALL, 0).run(infinite, embed, synthesise))


def test_losses_fall() -> None:
    settings = TrainingSettings(ascent=ASCENT, lr=3e-3, batch=5, epochs=40)
    curve, *_ = trained(settings, "hypersphere")
    assert curve[-1].total < 0.85 * curve[0].total
