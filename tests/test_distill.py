"""Distillation of supernets: images, training, result."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from supernet_parts import LITE, noise
from torch import Tensor
from typer.testing import CliRunner

from autosearch.backbones.supernets.distill import (
    Distillation,
    DistillationProgress,
    DistillationSettings,
    learning_rate,
)
from autosearch.backbones.supernets.elastic import ActiveSizes
from autosearch.backbones.supernets.image_pack import (
    ImagePack,
    augmented_batch,
    pack_images,
    plain_batch,
)
from autosearch.backbones.supernets.ofa_layout import random_state
from autosearch.backbones.supernets.teacher import Teacher
from autosearch.backbones.supernets.verify import channel_correlation, verify_state, width_of
from autosearch.backbones.weights import read_tensors, resolve
from autosearch.cli import app
from autosearch.errors import ConfigError, DataError, StudyError, WeightsError

LARGEST, SMALLEST = ActiveSizes.largest(), ActiveSizes.smallest()


def picture(seed: int, width: int = 256, height: int = 256) -> Image.Image:
    """Coloured blobs, so that images differ and crops are not flat."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for seed in range(45):
        (root / f"set{seed % 2}").mkdir(exist_ok=True)
        picture(seed).save(root / f"set{seed % 2}" / f"{seed:02}.png")
    return root


@pytest.fixture(scope="module")
def pack(folder: Path, cache: Path) -> ImagePack:
    return pack_images(folder)


def distillation(teacher: Teacher, pack: ImagePack, out: Path, steps: int, **changes: object):
    resume = bool(changes.pop("resume", False))
    settings = DistillationSettings(**{"batch": 4, "crop": 32, "steps": steps, **changes})
    return Distillation(teacher, {"teacher_sha256": "abc"}, pack, settings, out, resume)


def test_archives_are_read_and_bad_files_counted(tmp_path: Path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    picture(0, 600, 256).save(tmp_path / "deep" / "er" / "wide.jpg")
    picture(1, 220, 700).save(tmp_path / "tall.tga")
    picture(2, 150, 150).save(tmp_path / "small.png")
    Image.new("RGB", (300, 300), "red").save(tmp_path / "flat.bmp")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    (tmp_path / "broken.pk3").write_bytes(b"no archive")
    (tmp_path / "notes.txt").write_text("not an image")
    for name, seed in (("a.pk3", 3), ("b.ZIP", 4)):
        content = io.BytesIO()
        picture(seed).save(content, "webp")
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("textures/x.webp", content.getvalue())
            archive.writestr("textures/bad.png", b"")
            archive.writestr("readme.md", "text")
    pack = pack_images(tmp_path)
    assert pack.images == 4
    assert pack.crops.shape == (2 + 3 + 1 + 1, 256, 256, 3)
    assert pack.sources == {"a.pk3": 1, "b.ZIP": 1, "deep": 1, "tall.tga": 1}
    assert pack.skipped == {"unreadable": 4, "too small": 1, "flat or repeated": 1}
    archived = np.asarray(picture(3), dtype=int)
    assert np.abs(pack.crops[0] - archived).mean() < 6  # webp loses a little


def test_images_are_packed_once(folder: Path, pack: ImagePack, cache: Path):
    files = {path: path.stat().st_mtime_ns for path in (cache / "images").iterdir()}
    again = pack_images(folder)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert again.sha256 == pack.sha256
    assert np.array_equal(again.crops, pack.crops)
    assert pack.images == 45
    assert len(pack.held_out) == 2
    assert sorted([*pack.training, *pack.held_out]) == list(range(45))


def test_crops_of_one_image_are_held_out_together(tmp_path: Path):
    for seed in range(3):
        picture(seed, 800, 256).save(tmp_path / f"{seed}.png")
    pack = pack_images(tmp_path)
    assert pack.held_out.tolist() == [0, 1, 2]
    assert pack.training.tolist() == [3, 4, 5, 6, 7, 8]


def test_folders_without_images_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="is not a folder"):
        pack_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no usable image"):
        pack_images(tmp_path)
    picture(0).save(tmp_path / "one.png")
    with pytest.raises(DataError, match="one image only"):
        pack_images(tmp_path)


def test_augmentation_is_drawn_from_its_generator(pack: ImagePack):
    first, same = (augmented_batch(pack, 40, 32, np.random.default_rng(0)) for _ in range(2))
    assert torch.equal(first, same)
    assert not torch.equal(first, augmented_batch(pack, 40, 32, np.random.default_rng(1)))
    assert first.shape == (40, 3, 32, 32)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= first.min() < first.max() <= 1
    grey = (first == first[:, :1]).all((1, 2, 3)).sum()
    assert 4 <= grey <= 20  # 12 expected
    whole = torch.from_numpy(pack.crops[:2] / np.float32(255)).permute(0, 3, 1, 2)
    torch.testing.assert_close(plain_batch(pack.crops[:2], 256), whole)


def test_losses_fall(teacher: Teacher, pack: ImagePack, tmp_path: Path):
    run = distillation(teacher, pack, tmp_path, steps=24, crop=64)
    told: list[DistillationProgress] = []
    assert run.run(told.append)
    first, *steps, last = told
    assert [p.step for p in told] == [0, *range(1, 25), 24]
    assert first.held_out.keys() == last.held_out.keys() == {"largest", "smallest", "random"}
    for kind in first.held_out:
        pairs = zip(first.held_out[kind][1:], last.held_out[kind][1:], strict=True)
        ratios = [after / before for before, after in pairs]
        assert max(ratios) < 0.97
        assert sum(ratios) / 5 < 0.9
    assert all(p.held_out is None for p in steps)
    assert last.left == 0
    assert last.fraction == 1
    assert [entry["step"] for entry in run.history] == [0, 24]
    # Both matrices of the two blocks that every step runs at the least kernel or at random.
    for stage in range(5):
        for number in (4 * stage + 1, 4 * stage + 2):
            for matrix in ("7to5_matrix", "5to3_matrix"):
                name = f"blocks.{number}.conv.depth_conv.conv.{matrix}"
                assert not torch.equal(
                    run.net.tensors[name], torch.eye(len(run.net.tensors[name]))
                )


def test_a_run_that_was_cut_off_continues_bit_for_bit(
    teacher: Teacher, pack: ImagePack, tmp_path: Path
):
    whole = distillation(teacher, pack, tmp_path / "whole", steps=4)
    whole.run()
    done: list[DistillationProgress] = []
    cut = distillation(teacher, pack, tmp_path / "cut", steps=4)
    assert not cut.run(done.append, stop=lambda: len(done) > 2)
    assert cut.step == 2
    resumed = distillation(teacher, pack, tmp_path / "cut", steps=4, resume=True)
    assert resumed.step == 2
    assert resumed.elapsed == cut.elapsed
    assert resumed.run()
    saved = [read_tensors(tmp_path / d / "checkpoint.safetensors") for d in ("whole", "cut")]
    assert saved[0].keys() == saved[1].keys()
    assert any(name.startswith("optimiser.exp_avg_sq.net.") for name in saved[0])
    assert any(name.startswith("projection.5.") for name in saved[0])
    for name, tensor in saved[0].items():
        assert torch.equal(tensor, saved[1][name]), name
    assert resumed.pieces == [
        {"from_step": 0, "batch": 4, "crop": 32},
        {"from_step": 2, "batch": 4, "crop": 32},
    ]


def test_checkpoints_are_neither_overwritten_nor_mixed_up(
    teacher: Teacher, pack: ImagePack, tmp_path: Path
):
    with pytest.raises(StudyError, match="no checkpoint"):
        distillation(teacher, pack, tmp_path, 1, resume=True)
    distillation(teacher, pack, tmp_path, 0).run()
    with pytest.raises(StudyError, match="there already"):
        distillation(teacher, pack, tmp_path, 1)
    with pytest.raises(StudyError, match="seed '0', not '1'"):
        distillation(teacher, pack, tmp_path, 1, resume=True, seed=1)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(StudyError, match="not a checkpoint"):
        distillation(teacher, pack, tmp_path, 1, resume=True)


def test_a_time_budget_ends_the_run(teacher: Teacher, pack: ImagePack, tmp_path: Path):
    run = distillation(teacher, pack, tmp_path, None, minutes=1e-4, checkpoint_minutes=0)
    told: list[DistillationProgress] = []
    assert run.run(told.append)
    assert run.step >= 1
    assert told[1].left == pytest.approx(max(0, 6e-3 - told[1].elapsed))
    assert [p.held_out is None for p in told[:3]] == [False, True, False]


def test_any_teacher_and_the_wide_supernet_can_be_trained(pack: ImagePack, tmp_path: Path):
    teacher = Teacher("resnet18", resolve("resnet18", "random", 0).state)
    run = distillation(teacher, pack, tmp_path, 2, width=1.2)
    assert sorted(run.objective.projections) == [
        f"{place}.{kind}" for place in (0, 1, 2, 4, 5) for kind in ("bias", "weight")
    ]
    told: list[DistillationProgress] = []
    assert run.run(told.append)
    missing = [loss is None for loss in told[-1].held_out["random"]]
    assert missing == [False, False, False, True, False, False]


def test_settings_are_checked():
    for wrong in ({}, {"steps": 1, "minutes": 1.0}):
        with pytest.raises(ConfigError, match="exactly one"):
            DistillationSettings(**wrong)
    with pytest.raises(ConfigError, match="multiple of 32"):
        DistillationSettings(steps=1, crop=100)
    with pytest.raises(ConfigError, match="at least 2"):
        DistillationSettings(steps=1, batch=1)


def test_learning_rate_warms_up_and_fades():
    assert learning_rate(0.0) == pytest.approx(1e-6)
    assert learning_rate(0.01) == pytest.approx(1e-3, rel=0.01)
    assert learning_rate(0.02) == pytest.approx(2e-3, rel=0.01)
    assert learning_rate(0.5) == pytest.approx(1e-3 + 1e-6)
    assert learning_rate(1.0) == pytest.approx(1e-6)


def test_correlation_of_channels():
    target = noise(8, 5, 6, 6)
    scaled = 3 * target + 2
    assert channel_correlation(scaled, target) == pytest.approx(1)
    assert channel_correlation(torch.cat([-target, noise(8, 2, 6, 6)], 1), target) == (
        pytest.approx(-1)
    )
    constant = target.clone()
    constant[:, 0] = 1
    assert channel_correlation(constant, target) == pytest.approx(0.8)
    mixed = torch.einsum("nchw,dc->ndhw", target, noise(9, 5))
    assert channel_correlation(target, mixed) == pytest.approx(1)
    fresh = torch.randn(target.shape, generator=torch.Generator().manual_seed(5))
    assert abs(channel_correlation(fresh, mixed)) < 0.3


def test_verification_refuses_what_is_no_supernet(teacher_state: dict[str, Tensor]):
    with pytest.raises(WeightsError, match="stem is missing"):
        verify_state(teacher_state)
    state = random_state(1.2, 0)
    assert width_of(state) == 1.2
    found = verify_state(state)
    assert (found.width, found.parameters, found.agreement) == (1.2, 10_715_752, {})
    assert found.parity == 0
    state["blocks.3.conv.depth_conv.bn.weight"][0] = torch.nan
    with pytest.raises(WeightsError, match=r"not finite: blocks\.3"):
        verify_state(state)


def test_commands_from_images_to_a_verified_supernet(folder: Path, tmp_path: Path):
    out = tmp_path / "run"
    common = ["supernet", "distill", "--images", str(folder), "--out", str(out), "--half"]
    small = ["--batch", "2", "--crop", "32", "--teacher-weights", "bundled", "--threads", "1"]
    done = CliRunner().invoke(app, [*common, *small, "--steps", "1"])
    assert done.exit_code == 0, done.output
    assert "45 crops of 45 images, 2 held out" in done.output
    assert "14 blocks start as the teacher's" in done.output
    again = CliRunner().invoke(app, [*common, *small, "--steps", "2"])
    assert isinstance(again.exception, StudyError)

    file = out / "supernet.safetensors"
    card = json.loads((out / "supernet.json").read_text())
    assert card["teacher"] == LITE
    assert card["steps"] == 1
    assert card["sources"] == {"set0": 23, "set1": 22}
    assert {"teacher_sha256", "images_sha256", "seed", "held_out", "pieces"} <= card.keys()
    assert card["bytes"] == file.stat().st_size < 17e6
    weights = resolve("ofa_mbv3_d234_e346_k357_w1.0", str(file), 0)
    assert weights.sha256 == card["sha256"]
    stored = read_tensors(file)
    kernel = "blocks.1.mobile_inverted_conv.depth_conv.conv.conv.weight"
    assert stored[kernel].dtype == torch.float16
    assert stored["first_conv.bn.running_var"].dtype == torch.float32

    check = ["supernet", "verify", str(file), "--images", str(folder), "--crop", "64", "--json"]
    shown = CliRunner().invoke(app, [*check, "--teacher-weights", "bundled"])
    assert shown.exit_code == 0, shown.output
    record = json.loads(shown.output)
    assert record["sha256"] == card["sha256"]
    assert record["parity"] == 0
    assert len(record["agreement"]) == 10
    assert all(len(values) == 5 for values in record["agreement"].values())
    assert all(abs(value) <= 1 for value in record["agreement"]["largest, recalibrated"])


def test_a_larger_teacher(pack: ImagePack, tmp_path: Path):
    """EfficientNet-Lite2, other than Lite0, has 3, 3, 4, 4 and 5 blocks in these stages."""
    teacher = Teacher("tf_efficientnet_lite2", resolve("tf_efficientnet_lite2", "auto", 0).state)
    run = distillation(teacher, pack, tmp_path, 1, batch=2)
    assert run.copied_blocks == 3 + 3 + 4 + 4 + 4  # of a supernet's four
    held_out: list[dict[str, list[float | None]]] = []
    assert run.run(lambda told: held_out.append(told.held_out or {}), lambda: False)
    first, last = held_out[0]["largest"], held_out[-1]["largest"]
    assert len(first) == 6 and all(np.isfinite(first)) and all(np.isfinite(last))
    assert last != first
