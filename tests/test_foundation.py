"""Backbones of all kinds side by side: blocks by depth, canonical forms, presets."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from autosearch_runners.foundation import FoundationRunner
from autosearch_runners.foundation_presets import PRESETS

from autosearch.backbones import TimmBackbone, to_patches
from autosearch.contracts import Runner, TrialContext, check_space, registry
from autosearch.errors import ConfigError, Infeasible
from autosearch.spec import Params, Space, parse_spec
from autosearch.testing import RunnerSuite, image_set

VIT, CNN, SUPERNET = (
    "vit_tiny_patch16_224",
    "tf_efficientnet_lite0",
    "ofa_mbv3_d234_e346_k357_w1.0",
)
SHALLOW: Params = {"backbone": VIT, "block1.depth": 0.0833, "block2.depth": 0.1667}
SUBNET: Params = {
    "backbone": SUPERNET,
    "stage0.extraction_block": 2,
    "stage1.extraction_block": 5,
}


def made(space: dict[str, Any] | None = None, kind: type[Runner] | None = None) -> Runner:
    """A runner with random weights, that may draw the three."""
    content = {
        "study": {"name": "test", "runner": "foundation"},
        "space": space or {"backbone": [VIT, CNN, SUPERNET]},
        "objectives": ["gflops", "rwap"],
        "backbone": {"weights": "random"},
    }
    return (kind or registry.load_runner("foundation"))(parse_spec(content))


@cache
def runner_of_three() -> Runner:
    return made()


@pytest.fixture
def runner() -> Runner:
    return runner_of_three()


class TestFoundation(RunnerSuite):
    configurations = (
        SHALLOW,
        {
            **SHALLOW,
            "block1.weight": 0.5,
            "block2.patch_size": 1,
            "fusion": "levels",
            "final_norm": True,
        },
        SUBNET,
    )
    texts = (VIT, CNN, SUPERNET)
    never = tuple(PRESETS)
    tolerance = 5e-5


def form(runner: Runner, **params: Any) -> Params:
    return runner.canonical({name.replace("_depth", ".depth"): v for name, v in params.items()})


def blocks(canonical: Params) -> list[float]:
    return [float(v) for k, v in canonical.items() if k.endswith(".depth") and v is not None]


@pytest.mark.parametrize(
    ("depth", "block"),
    [(0.001, 0), (0.0833, 0), (0.12, 0), (0.13, 1), (0.3333, 3), (0.75, 8), (0.99, 11), (1.0, 11)],
)
def test_depth_names_a_block(runner: Runner, depth: float, block: int) -> None:
    """Of twelve; the nearest, and the first for what lies before it."""
    (found,) = blocks(form(runner, backbone=VIT, block1_depth=depth))
    assert found == round((block + 1) / 12, 4)


def test_networks_end_behind_the_deepest_block(runner: Runner) -> None:
    found = form(runner, backbone=VIT, block1_depth=0.75, block4_depth=0.3333)
    built = runner.build(found, TrialContext(0, "cpu", (32, 32)))
    assert built._extractor.levels == [3, 8]  # type: ignore[attr-defined]
    assert len(built._extractor.model.blocks) == 9  # type: ignore[attr-defined]


def test_every_block_can_be_named_by_its_share(runner: Runner) -> None:
    """As the help says: (i + 1) / L, whatever the depth."""
    assert isinstance(runner, FoundationRunner)
    for count in (1, 4, 5, 12, 24, 32, 40):
        runner._levels["made_up"] = count
        for block in range(count):
            share = round((block + 1) / count, 4)
            found = form(runner, backbone="made_up", block1_depth=max(share, 0.001))
            assert blocks(found) == [share] and round(share * count) - 1 == block
    del runner._levels["made_up"]


def test_levels_of_convolutions_are_blocks(runner: Runner) -> None:
    found = form(runner, backbone=CNN, block1_depth=0.6, block2_depth=0.8, final_norm=True)
    assert blocks(found) == [0.6, 0.8] and "final_norm" not in found
    context = TrialContext(0, "cpu", (64, 64))
    assert runner.build(found, context)._extractor.levels == [2, 3]  # type: ignore[attr-defined]


def test_order_of_blocks_has_no_effect_and_two_on_one_are_one(runner: Runner) -> None:
    one = {"backbone": VIT, "block1.depth": 0.25, "block1.patch_size": 2, "block3.depth": 0.5}
    other = {"backbone": VIT, "block1.depth": 0.5, "block4.depth": 0.26, "block4.patch_size": 2}
    assert runner.canonical(one) == runner.canonical(other)
    assert list(runner.canonical(one))[1:5] == [
        f"block{n}.{name}" for n in (1, 2) for name in ("depth", "patch_size")
    ]
    twice = {**one, "block4.depth": 0.52, "block4.patch_size": 9}
    assert runner.canonical(twice) == runner.canonical(one)


def test_weights_go_with_their_blocks(runner: Runner) -> None:
    params = {"backbone": VIT, "block1.depth": 0.5, "block2.depth": 0.25, "fusion": "levels"}
    found = runner.canonical({**params, "block1.weight": 3.0, "block2.weight": 0.5})
    assert (found["block1.weight"], found["block2.weight"]) == (0.5, 3.0)
    with pytest.raises(Infeasible, match="weight is 0 for all"):
        runner.canonical({**params, "block1.weight": 0.0, "block2.weight": 0.0})


def test_subnets_are_those_of_autopatch(runner: Runner) -> None:
    """Its canonical form but for the width, which is that of the supernet; its maps."""
    content = {"width": [1.0], "stage1.extraction_block": [5, 6]}
    autopatch = made(content, registry.load_runner("autopatch"))
    params = {**SUBNET, "stage3.extraction_block": None, "num_neighbors": 2}
    found, expected = runner.canonical(params), autopatch.canonical({**params, "width": 1.0})
    assert found == {"backbone": SUPERNET} | {k: v for k, v in expected.items() if k != "width"}
    context, train = TrialContext(0, "cpu", (64, 64)), image_set(64, 2, 0, seed=0)
    maps = []
    for one, canonical in ((runner, found), (autopatch, expected)):
        detector = one.build(canonical, context)
        detector.fit(train)
        maps.append(detector.anomaly_maps(torch.from_numpy(train.pixels.copy())))
    assert torch.equal(*maps)


def test_a_subnet_without_blocks_has_the_usual_ones(runner: Runner) -> None:
    found = runner.canonical({"backbone": SUPERNET, "block1.depth": 0.1, "final_norm": True})
    assert found["stage1.extraction_block"] == 6 and found["stage3.extraction_block"] == 14
    assert not any(name.startswith("block") for name in found) and "final_norm" not in found
    only = runner.canonical({"backbone": SUPERNET, "stage2.extraction_block": 10})
    assert only["stage1.extraction_block"] is only["stage3.extraction_block"] is None


def test_bank_rows_are_tokens_of_the_blocks(runner: Runner) -> None:
    """Without smoothing or scaling: squared distances to the nearest, upsampled."""
    assert isinstance(runner, FoundationRunner)
    params = {**SHALLOW, "block1.patch_size": 1, "block2.patch_size": 1, "final_norm": True}
    train = image_set(32, 3, 0, seed=0)
    detector = runner.build(runner.canonical(params), TrialContext(0, "cpu", (32, 32)))
    detector.fit(train)
    backbone = TimmBackbone(VIT, (0, 1), runner._weights[VIT].state, final_norm=True)
    asked = torch.from_numpy(image_set(32, 1, 1, seed=5).pixels.copy())
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.mean, backbone.std))

    def tokens(images: torch.Tensor) -> torch.Tensor:
        return to_patches(torch.cat(backbone((images - mean) / std), 1))

    bank = tokens(torch.from_numpy(train.pixels.copy()))
    nearest = torch.cdist(tokens(asked), bank).min(1).values.square().view(2, 1, 2, 2)
    expected = torch.nn.functional.interpolate(nearest, (32, 32), mode="bilinear")[:, 0]
    torch.testing.assert_close(detector.anomaly_maps(asked), expected, rtol=1e-3, atol=1e-4)


def test_what_the_network_sees_is_told_where_it_is_not_what_was_asked(runner: Runner) -> None:
    train = image_set(32, 2, 0, seed=0)
    wide = replace(train, pixels=train.pixels[:, :, :, :24])
    for images, told in ((train, {}), (wide, {"network_height": 32.0, "network_width": 32.0})):
        size = (images.pixels.shape[-2], images.pixels.shape[-1])
        detector = runner.build(runner.canonical(SHALLOW), TrialContext(0, "cpu", size))
        detector.fit(images)
        assert detector.figures() == told
        assert detector.anomaly_maps(torch.from_numpy(images.pixels.copy())).shape[1:] == size


def test_published_blocks_are_those_of_their_presets() -> None:
    published = {"superadd": [3, 5, 8, 10], "rad": [3, 6, 9, 11], "anomalydino": [11]}
    for name, preset in PRESETS.items():
        found = [round(depth * 12) - 1 for depth in blocks(preset)]
        assert found == published[name]
        space = Space.parse({key: [value] for key, value in {**preset, "preset": name}.items()})
        check_space(space, FoundationRunner.parameters, "foundation")


def test_a_preset_gives_what_the_space_does_not() -> None:
    """And the rest of a space goes first: any backbone can have a preset's settings."""
    runner = made({"backbone": [VIT], "preset": [None, *PRESETS]})
    found = runner.canonical({"backbone": VIT, "preset": "rad", "window": 2})
    assert blocks(found) == [0.3333, 0.5833, 0.8333, 1.0] and found["final_norm"] is True
    assert (found["backbone"], found["window"], found["metric"]) == (VIT, 2, "cosine")
    assert "preset" not in found and runner.canonical(found) == found
    assert len({str(runner.canonical({"backbone": VIT, "preset": p})) for p in PRESETS}) == 3


def test_where_a_condition_leaves_no_backbone_there_is_the_usual_one() -> None:
    """Of the baseline over timm's models, too."""
    drawn = {"choice": [VIT], "when": {"num_neighbors": [1]}}
    for kind in ("foundation", "patchcore"):
        space = {"num_neighbors": [1, 3], "backbone": drawn}
        found = made(space, registry.load_runner(kind)).canonical({"num_neighbors": 3})
        assert found["backbone"] == CNN


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        ({"backbone": ["vit_smal_patch16_dinov3"]}, "did you mean 'vit_small_patch16_dinov3'"),
        ({"block1.depth": [8]}, r"space\.block1\.depth.* numbers from 0\.001 to 1"),
        ({"block2.depth": [1.2]}, r"space\.block2\.depth.* null, or numbers from 0\.001 to 1"),
        ({"block1.depth": [None]}, r"space\.block1\.depth"),
        ({"block5.depth": [0.5]}, "did you mean 'block[1-4].depth'"),
    ],
)
def test_bad_spaces_are_refused_in_one_line(space: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        check_space(Space.parse(space), FoundationRunner.parameters, "runner foundation")
        made(space)
    assert "\n" not in str(caught.value)


def test_patchcore_says_where_deeper_blocks_are() -> None:
    kind = registry.load_runner("patchcore")
    space = Space.parse({"level8.extract": [True]})
    with pytest.raises(ConfigError, match="the runner foundation, by block1"):
        check_space(space, kind.parameters, "runner patchcore", kind.elsewhere)
    with pytest.raises(ConfigError) as caught:
        check_space(Space.parse({"windw": [1]}), kind.parameters, "x", kind.elsewhere)
    assert "foundation" not in str(caught.value)
