"""Supernets that learn from plain transformers: blocks, their tokens on maps, runs, refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from autosearch.api.supernets import _terms
from autosearch.backbones.foundation_weights import Licence
from autosearch.backbones.supernets.distill import (
    Distillation,
    DistillationProgress,
    DistillationSettings,
)
from autosearch.backbones.supernets.elastic import ActiveSizes, ElasticOFA
from autosearch.backbones.supernets.feature_loss import FeatureLoss
from autosearch.backbones.supernets.image_pack import ImagePack, pack_images, plain_batch
from autosearch.backbones.supernets.ofa_layout import random_state
from autosearch.backbones.supernets.teacher import REDUCTIONS, Teacher
from autosearch.backbones.supernets.token_targets import block_of_each_map, blocks_at
from autosearch.backbones.weights import Weights, read_tensors, resolve
from autosearch.cli import app
from autosearch.errors import ConfigError, StudyError

VIT, OF_14 = "vit_tiny_patch16_224", "vit_small_patch14_dinov2"
FIRST_TWO = (1 / 12, 2 / 12)
Refused = Callable[..., str]


@cache
def state(name: str) -> dict[str, Tensor]:
    return resolve(name, "random", 0).state


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(VIT, state(VIT), FIRST_TWO)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of coloured blobs."""
    root = tmp_path_factory.mktemp("pictures")
    for seed in range(42):
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        whole = Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)
        whole.save(root / f"{seed:02}.png")
    return root


@pytest.fixture(scope="module")
def pack(folder: Path, cache: Path) -> ImagePack:
    return pack_images(folder)


def noise(*size: int) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def test_blocks_are_found_by_their_share_of_the_depth():
    assert blocks_at(None, 12) == (2, 5, 8, 11)
    assert blocks_at(None, 24) == (5, 11, 17, 23)
    assert blocks_at(None, 2) == (0, 1)
    assert blocks_at((0.9167, 0.3333, 0.75, 0.5), 12) == (3, 5, 8, 10)
    assert blocks_at((0.001,), 12) == (0,)
    for wrong in ((), (0.0,), (0.5, 1.25), (-0.5,), (float("nan"),), (0.1, 0.2, 0.3, 0.4, 0.5)):
        with pytest.raises(ConfigError, match=r"blocks: .* one to 4 shares of the depth"):
            blocks_at(wrong, 12)


def test_neighbouring_maps_share_a_block_where_blocks_are_few():
    assert [block_of_each_map(number) for number in (1, 2, 3, 4)] == [
        (0, 0, 0, 0),
        (0, 0, 1, 1),
        (0, 0, 1, 2),
        (0, 1, 2, 3),
    ]


def test_tokens_lie_on_the_maps_that_learn_them():
    """Against timm's tokens: twice as fine between them, as they are, and means of four."""
    blocks = (1, 2, 3, 5)
    taught = Teacher(VIT, state(VIT), [block / 12 for block in blocks])
    model = timm.create_model(VIT, img_size=64).eval()
    position = state(VIT)["pos_embed"]
    model.load_state_dict({k: v for k, v in state(VIT).items() if k != "pos_embed"}, strict=False)
    grid = timm.layers.resample_abs_pos_embed(position, [4, 4], num_prefix_tokens=1)
    model.pos_embed.data.copy_(grid)
    images = noise(64, 64)
    with torch.no_grad():
        tokens = model.forward_intermediates(
            (images - 0.5) / 0.5,
            indices=[b - 1 for b in blocks],
            norm=True,
            intermediates_only=True,
        )
        found = taught(images)
    assert found[:2] == [None, None]
    assert [tap and (tap.channels, tap.reduction) for tap in taught.taps] == [
        None,
        None,
        *[(192, reduction) for reduction in REDUCTIONS[2:]],
    ]
    assert tokens[0].shape == (2, 192, 4, 4)
    expected = [_twice_as_fine(tokens[0]), tokens[1], tokens[2], _means_of_four(tokens[3])]
    for answer, wanted in zip(found[2:], expected, strict=True):
        torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-5)


def _twice_as_fine(tokens: Tensor) -> Tensor:
    """Linear between centres of tokens, at the centres of their quarters; constant outside."""
    side = tokens.shape[-1]
    fine = torch.empty(*tokens.shape[:2], 2 * side, 2 * side)
    places = [min(max((i + 0.5) / 2 - 0.5, 0), side - 1) for i in range(2 * side)]
    for i, y in enumerate(places):
        for j, x in enumerate(places):
            top, left = min(int(y), side - 2), min(int(x), side - 2)
            a, b = y - top, x - left
            fine[..., i, j] = (
                (1 - a) * ((1 - b) * tokens[..., top, left] + b * tokens[..., top, left + 1])
            ) + a * ((1 - b) * tokens[..., top + 1, left] + b * tokens[..., top + 1, left + 1])
    return fine


def _means_of_four(tokens: Tensor) -> Tensor:
    return sum(tokens[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def test_any_patch_fits_the_maps_of_the_supernet():
    taught = Teacher(OF_14, state(OF_14), (1 / 12,))
    assert taught.blocks == "1 of 12, behind the final norm"
    assert [taught.input_side(side) for side in (28, 32, 40)] == [28, 28, 42]
    assert taught.stages == (None,) * 6
    net = ElasticOFA(1.0, random_state(1.0, 0))
    for height, width in ((32, 32), (40, 64)):
        with torch.no_grad():
            maps = net.forward(noise(height, width), ActiveSizes.smallest())
            answers = taught(noise(height, width))
        for own, answer in list(zip(maps, answers, strict=True))[2:]:
            assert own.shape[-2:] == answer.shape[-2:]


def test_a_projection_starts_at_the_mean_of_the_teacher(teacher: Teacher, pack: ImagePack):
    net = ElasticOFA(1.0, random_state(1.0, 0))

    def images(chosen: np.ndarray) -> Tensor:
        return plain_batch(pack.crops[chosen], 32)

    loss = FeatureLoss(teacher, net, images, np.arange(6))
    assert sorted(loss.projections) == [
        f"{place}.{kind}" for place in (2, 3, 4, 5) for kind in ("bias", "weight")
    ]
    with torch.no_grad():
        for place, target in enumerate(teacher(images(np.arange(6)))):
            if target is not None:
                mean = target.mean((0, 2, 3))
                torch.testing.assert_close(loss.projections[f"{place}.bias"].detach(), mean)
    assert loss.projections["2.bias"].requires_grad


def distillation(teacher: Teacher, pack: ImagePack, out: Path, resume: bool = False):
    identity = {"teacher_blocks": str(teacher.blocks)}
    settings = DistillationSettings(batch=8, crop=32, steps=16)
    return Distillation(teacher, identity, pack, settings, out, resume)


def test_losses_fall(teacher: Teacher, pack: ImagePack, tmp_path: Path):
    run = distillation(teacher, pack, tmp_path)
    assert run.copied_blocks == 0
    told: list[DistillationProgress] = []
    assert run.run(told.append)
    for kind, before in told[0].held_out.items():
        after = told[-1].held_out[kind]
        assert before[:2] == after[:2] == [None, None]
        # At 1 it answers with the mean. The last map is of one pixel here, which is noise.
        ratios = [b / a for a, b in zip(before[2:5], after[2:5], strict=True)]
        assert max(ratios) < 0.985, (kind, ratios)
    other = Teacher(VIT, state(VIT), (0.5,))
    with pytest.raises(StudyError, match=r"teacher_blocks '1, 2 of 12.*not '6 of 12"):
        distillation(other, pack, tmp_path, resume=True)


def test_commands_from_images_to_a_verified_supernet(folder: Path, tmp_path: Path):
    out, learnt = tmp_path / "run", ["--teacher-weights", "random", "--blocks", "0.0833,0.1667"]
    small = ["--batch", "2", "--crop", "32", "--steps", "1", "--threads", "1"]
    common = ["--images", str(folder), "--teacher", VIT, *learnt]
    done = CliRunner().invoke(app, ["supernet", "distill", *common, *small, "--out", str(out)])
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "learnt are the teacher's blocks 1, 2 of 12, behind the final norm no" in text
    assert "no block starts as the teacher's" in text
    card = json.loads((out / "supernet.json").read_text())
    assert card["teacher"] == VIT
    assert card["teacher_blocks"] == "1, 2 of 12, behind the final norm"
    assert card["teacher_sha256"] == resolve(VIT, "random", 0).sha256
    assert card["teacher_licence"] == "none: random"
    assert "stem" not in read_tensors(out / "supernet.safetensors")

    check = ["supernet", "verify", str(out / "supernet.safetensors"), *common, "--crop", "64"]
    shown = CliRunner().invoke(app, [*check, "--json"])
    assert shown.exit_code == 0, shown.output
    for values in json.loads(shown.output)["agreement"].values():
        assert values[0] is None
        assert all(abs(value) <= 1 for value in values[1:])


def test_the_card_names_the_licence_of_the_weights():
    licence = Licence("Terms", "https://terms.example", "some")
    own = Weights(VIT, "path", "abc", {}, "read from own.safetensors")
    assert _terms(own) == {"teacher_licence": "not known: read from own.safetensors"}
    assert _terms(replace(own, licence=licence, accepted="some")) == {
        "teacher_licence": "Terms",
        "teacher_licence_url": "https://terms.example",
        "teacher_licence_accepted": "some",
    }


def test_what_cannot_teach_is_refused_in_one_line(
    refused: Refused, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    begun = ("supernet", "distill", "--images", folder, "--out", tmp_path / "run", "--steps", "1")

    def told(*arguments: str) -> str:
        return refused(tmp_path, *begun, *arguments)

    assert "teacher: 'vit_tinny'" in told("--teacher", "vit_tinny")
    random = ("--teacher-weights", "random")
    beyond = told("--teacher", VIT, *random, "--blocks", "0.5,1.25")
    assert "blocks: [0.5, 1.25]" in beyond and "block i of 12" in beyond
    assert "blocks: 'last'" in told("--teacher", VIT, *random, "--blocks", "last")
    assert "no plain transformer" in told("--blocks", "0.5")
    assert "images of any size" in told("--teacher", "mixer_s16_224", *random)
    assert "HF_HUB_OFFLINE is set" in told("--teacher", VIT)
    assert "--accept-licence dinov3" in told("--teacher", "vit_small_patch16_dinov3")
