"""Weights of foundation models: licences, pins, folders of files. No network is asked."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import safetensors.torch
import timm
import torch

from autosearch.backbones import hub
from autosearch.backbones.foundation_weights import FOUNDATION_MODELS, LICENCES, licence_of
from autosearch.backbones.weights import resolve
from autosearch.errors import WeightsError
from autosearch.export.card_data import data_and_weights
from autosearch.files import cache_dir, sha256
from autosearch.spec.sections import BackboneSpec

TINY = "test_vit"
FULL = "test_vit.r160_in1k"
OFA = "ofa_mbv3_d234_e346_k357_w1.0"
DINO = "vit_small_patch16_dinov3"
FIRST, SECOND = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    safetensors.torch.save_file(timm.create_model(TINY).state_dict(), path)
    return path


@pytest.fixture
def owned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny model come under the licence that must be accepted."""
    original = timm.get_pretrained_cfg

    def licensed(name: str) -> Any:
        return dataclasses.replace(original(name), license="dinov3-license")

    monkeypatch.setattr(timm, "get_pretrained_cfg", licensed)


class Hub:
    """A hub, and its cache on this machine, as the client library shows them.

    Attributes:
        cached: Revision to content, in the cache.
        online: The same on the hub, the newest last; None where it cannot be reached.
        asked: Revisions that were fetched.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.cached: dict[str, bytes] = {}
        self.online: dict[str, bytes] | None = {}
        self.refusal: int | None = None
        self.asked: list[str] = []

    def download(
        self, repository: str, file: str, revision: str | None = None,
        local_files_only: bool = False,
    ) -> str:  # fmt: skip
        assert (repository, file) == (f"timm/{FULL}", "model.safetensors")
        if local_files_only:
            found = revision or next(reversed(self.cached), "")
            if found not in self.cached:
                raise FileNotFoundError(file)
            return str(self._written(found))
        if self.refusal is not None:
            error = OSError("Client error '401 Unauthorized'\nfor url")
            error.response = SimpleNamespace(status_code=self.refusal)  # type: ignore[attr-defined]
            raise error
        assert self.online is not None
        found = revision or next(reversed(self.online))
        self.asked.append(found)
        self.cached[found] = self.online[found]
        return str(self._written(found))

    def ask(self) -> None:
        if self.online is None:
            raise OSError("no network")

    def _written(self, revision: str) -> Path:
        path = self.place / "snapshots" / revision / "model.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.cached[revision])
        return path


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(hub.huggingface_hub, "hf_hub_download", made.download)
    monkeypatch.setattr(hub, "_ask_hub", made.ask)
    return made


def another(file: Path) -> bytes:
    state = {name: tensor + 1 for name, tensor in safetensors.torch.load_file(file).items()}
    return safetensors.torch.save(state)


class TestPins:
    def test_revision_and_hash_of_the_first_use_are_kept(self, stub: Hub, file: Path) -> None:
        stub.online = {FIRST: file.read_bytes()}
        found = resolve(TINY, "auto", 0)
        record = cache_dir("weights", "hub", f"timm--{FULL}", "model.safetensors.json")
        assert json.loads(record.read_text()) == {"sha256": sha256(file), "revision": FIRST}
        assert found.sha256 == sha256(file) and f"revision {FIRST} of timm/{FULL}" in found.note
        # The hub has moved on and the cache is empty: the same file is fetched.
        stub.cached.clear()
        stub.online[SECOND] = another(file)
        assert resolve(TINY, "auto", 0).sha256 == sha256(file)
        assert stub.asked == [FIRST, FIRST]

    def test_a_newer_revision_of_the_same_file_will_do(self, stub: Hub, file: Path) -> None:
        stub.cached = {FIRST: file.read_bytes()}
        resolve(TINY, "auto", 0)
        stub.cached, stub.online = {SECOND: file.read_bytes()}, None
        assert resolve(TINY, "auto", 0).sha256 == sha256(file)

    def test_another_file_is_refused(self, stub: Hub, file: Path) -> None:
        stub.cached = {FIRST: file.read_bytes()}
        resolve(TINY, "auto", 0)
        stub.cached = {FIRST: another(file)}
        stub.online = {FIRST: another(file)}
        with pytest.raises(
            WeightsError, match=rf"{sha256(file)} was recorded .*delete that record"
        ):
            resolve(TINY, "auto", 0)
        stub.cached, stub.online = {SECOND: another(file)}, None
        with pytest.raises(WeightsError, match=rf"not cached.*revision {FIRST}") as raised:
            resolve(TINY, "auto", 0)
        assert "\n" not in str(raised.value)

    def test_a_damaged_record_is_named(self, stub: Hub, file: Path) -> None:
        stub.cached = {FIRST: file.read_bytes()}
        resolve(TINY, "auto", 0)
        record = cache_dir("weights", "hub", f"timm--{FULL}", "model.safetensors.json")
        for content in ("", "[]", '{"sha256": 5}'):
            record.write_text(content)
            with pytest.raises(WeightsError, match=r"model\.safetensors\.json.*delete it"):
                resolve(TINY, "auto", 0)

    @pytest.mark.parametrize("status", [401, 403])
    def test_gated_answers_say_what_to_do(self, stub: Hub, status: int) -> None:
        stub.refusal = status
        wanted = rf"refuses timm/{FULL} \({status}\): accept its terms at .*/timm/{FULL}.*HF_TOKEN"
        with pytest.raises(WeightsError, match=wanted) as raised:
            resolve(TINY, "auto", 0)
        assert "\n" not in str(raised.value)

    def test_offline_names_file_and_place(self, stub: Hub) -> None:
        stub.online = None
        with pytest.raises(WeightsError) as raised:
            resolve(TINY, "auto", 0)
        text = str(raised.value)
        for part in (
            f"fetch model.safetensors of timm/{FULL}, revision main",
            hub.huggingface_hub.constants.HF_HUB_CACHE,
            f"{TINY}.safetensors into any folder",
        ):
            assert part in text
        assert "\n" not in text


class TestFolders:
    @pytest.mark.parametrize("model", [TINY, FULL])
    @pytest.mark.parametrize("name", [TINY, FULL])
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_hold_a_file_a_model(
        self, tmp_path: Path, file: Path, model: str, name: str, suffix: str
    ) -> None:
        path = tmp_path / "all" / f"{name}{suffix}"
        path.parent.mkdir()
        state = safetensors.torch.load_file(file)
        if suffix == ".pth":
            torch.save(state, path)
        else:
            safetensors.torch.save_file(state, path)
        (path.parent / "resnet18.pth").write_bytes(b"of another model")
        found = resolve(model, str(path.parent), 0)
        assert (found.source, found.sha256) == ("path", sha256(path))
        assert found.note == f"read from {path.name}"

    def test_own_names_come_first(self, tmp_path: Path, file: Path) -> None:
        for name in (f"{FULL}.safetensors", f"{TINY}.safetensors"):
            (tmp_path / name).write_bytes(file.read_bytes())
        (tmp_path / f"{TINY}.pth").write_bytes(b"")
        assert resolve(TINY, str(tmp_path), 0).note == f"read from {TINY}.safetensors"
        assert resolve(FULL, str(tmp_path), 0).note == f"read from {FULL}.safetensors"

    def test_what_is_missing_is_named_and_what_is_there(self, tmp_path: Path, file: Path) -> None:
        with pytest.raises(WeightsError, match="found nothing"):
            resolve(TINY, str(tmp_path), 0)
        (tmp_path / "test_vit.other_tag.safetensors").write_bytes(file.read_bytes())
        with pytest.raises(WeightsError) as raised:
            resolve(TINY, str(tmp_path), 0)
        assert str(raised.value) == (
            f"{tmp_path}: no weights of {TINY}: expected {TINY}.safetensors or {TINY}.pth, or the "
            f"same with {FULL}; found test_vit.other_tag.safetensors"
        )
        for number in range(20):
            (tmp_path / f"x{number}").touch()
        with pytest.raises(WeightsError, match="and 13 more"):
            resolve(TINY, str(tmp_path), 0)

    def test_models_that_need_no_network_need_no_file(self, tmp_path: Path, file: Path) -> None:
        with pytest.raises(WeightsError, match=f"expected {OFA}.safetensors"):
            resolve(OFA, str(tmp_path), 0)  # An empty folder is a mistake.
        (tmp_path / f"{TINY}.safetensors").write_bytes(file.read_bytes())
        assert resolve(OFA, str(tmp_path), 0).source == "bundled"
        assert resolve("tf_efficientnet_lite0", str(tmp_path), 0).source == "package"

    def test_of_a_file_that_does_not_fit(self, tmp_path: Path) -> None:
        safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / f"{TINY}.safetensors")
        with pytest.raises(WeightsError, match=rf"{TINY}\.safetensors: does not fit {TINY}"):
            resolve(TINY, str(tmp_path), 0)


class TestLicences:
    def test_models_that_we_name_exist_with_the_licence_that_we_say(self) -> None:
        for name, title in FOUNDATION_MODELS.items():
            config, licence = timm.get_pretrained_cfg(name), licence_of(name)
            assert config.hf_hub_id == f"timm/{name}" and licence is not None
            asked = licence.key is not None
            assert asked == title.startswith("DINOv3") and licence.url is not None
            page = Path(__file__).parent.parent / "docs" / "methods.md"
            assert f"`{name}`" in page.read_text()

    def test_keys_are_those_that_a_spec_takes(self) -> None:
        field = BackboneSpec.model_fields["accept_licence"].annotation
        words = {word for part in get_args(field) for word in get_args(part)}
        assert words == {licence.key for licence in LICENCES.values()} - {None}

    @pytest.mark.parametrize("request_", ["auto", "official", "bundled", "a/file.pth"])
    def test_must_be_accepted_before_anything_is_read(self, stub: Hub, request_: str) -> None:
        del stub.online  # Nobody may be asked.
        for accepted in (None, "other"):
            with pytest.raises(WeightsError) as raised:
                resolve(DINO, request_, 0, accepted)
            text = str(raised.value)
            assert text.startswith(f"{DINO}: its weights come under the DINOv3 License (https://")
            assert "--set backbone.accept_licence=dinov3" in text and "\n" not in text

    def test_random_weights_need_none(self) -> None:
        found = resolve("convnext_atto", "random", 0)
        assert "licence" not in found.provenance()

    @pytest.mark.usefixtures("owned")
    def test_are_kept_with_the_results(self, file: Path, stub: Hub) -> None:
        stub.cached = {FIRST: file.read_bytes()}
        assert "licence" not in resolve(TINY, "random", 0).provenance()
        for request in (str(file), "auto"):
            with pytest.raises(WeightsError, match="accept_licence"):
                resolve(TINY, request, 0)
            told = resolve(TINY, request, 0, "dinov3").provenance()
            licence = LICENCES["dinov3-license"]
            assert told["licence"] == licence.title and told["licence_url"] == licence.url
            assert told["licence_accepted"] == "dinov3"

    @pytest.mark.parametrize("key", ["dinov3-license", "apache-2.0"])
    def test_stand_in_the_model_card(self, key: str) -> None:
        licence = LICENCES[key]
        weights = {"name": "a", "source": "timm", "note": "b", "sha256": "c"}
        described = {
            "dataset": {
                "name": "x", "category": "y", "counts": {}, "image_size": [32, 32],
                "resize_rule": "r", "mask_rule": "m", "sha256": "s",
            },
            "fit": {"images": 3, "anomalous": 0, "train": 2, "validation_normal": 1},
            "weights": [weights],
        }  # fmt: skip
        assert "come under" not in "".join(data_and_weights(described))
        weights |= {"licence": licence.title, "licence_url": str(licence.url)}
        weights |= {} if licence.key is None else {"licence_accepted": licence.key}
        text = "".join(data_and_weights(described))
        assert f"They come under the {licence.title} (<{licence.url}>)" in text
        assert (
            ("accept_licence: dinov3" in text) == ("before you pass" in text) == bool(licence.key)
        )

    def test_that_ask_for_nothing_are_told_of_files_of_the_hub_alone(
        self, file: Path, stub: Hub
    ) -> None:
        stub.cached = {FIRST: file.read_bytes()}
        told = resolve(TINY, "auto", 0, "dinov3").provenance()
        assert told["licence"] == "Apache License 2.0" and "licence_accepted" not in told
        assert "licence" not in resolve(TINY, str(file), 0).provenance()
