"""Weights and checkpoints that nobody should trust: refused, and nothing run."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from damage import Change, Refused
from torch import Tensor

from autosearch.backbones.supernets import ofa_layout
from autosearch.backbones.supernets.checkpoint import load_checkpoint, save_checkpoint
from autosearch.errors import StudyError


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self._proof,)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The tensors of a supernet."""
    return ofa_layout.random_state(1.0, 0)


@pytest.fixture(scope="module")
def whole(state: dict[str, Tensor]) -> bytes:
    """A good file of them."""
    return safetensors.torch.save(state)


class TestWeights:
    NAME = "first_conv.conv.weight"

    @pytest.fixture
    def refusal(self, refused: Refused, tmp_path: Path) -> Refused:
        """The line with which a search with a file of weights is refused, having run nothing."""

        def run(path: Path, space: str = "autopatch") -> str:
            given = ["--executor", "local", "--set", f"backbone.weights={path}"]
            line = refused(tmp_path, "run", space, *given, "--results", tmp_path / "results")
            assert not (tmp_path / "results").exists() and not (tmp_path / "proof").exists()
            assert path.name in line
            return line

        return run

    @pytest.mark.parametrize(
        "content",
        [b"", b"abc", bytes(8), b"\xff" * 8, struct.pack("<Q", 2**60) + b"{}" * 50,
         struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 2) + b"{}", b"\x00" * 5000,
         struct.pack("<Q", 9000) + b"[" * 9000, struct.pack("<Q", 100) + b"{", b"<html>" * 9],
        ids=range(11),
    )  # fmt: skip
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_that_are_none(
        self, refusal: Refused, tmp_path: Path, content: bytes, suffix: str
    ) -> None:
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content)
        refusal(path)

    @pytest.mark.parametrize(
        "entry",
        [{"data_offsets": [0, 2**40]}, {"data_offsets": [-1, 5]}, {"data_offsets": [8, 0]},
         {"data_offsets": []}, {"dtype": "F99"}, {"dtype": None}, {"shape": [2**62, 4]},
         {"shape": [-1]}, {"shape": "wide"}, {"shape": [1]}],
    )  # fmt: skip
    def test_whose_header_lies(
        self, refusal: Refused, tmp_path: Path, whole: bytes, entry: dict[str, Any]
    ) -> None:
        length = struct.unpack("<Q", whole[:8])[0]
        header = json.loads(whole[8 : 8 + length])
        header[self.NAME].update(entry)
        changed = json.dumps(header).encode()
        path = tmp_path / "weights.safetensors"
        path.write_bytes(struct.pack("<Q", len(changed)) + changed + whole[8 + length :])
        refusal(path)

    @pytest.mark.parametrize("length", [7, 100, 50_000, -1000])
    def test_that_are_cut_off(
        self, refusal: Refused, tmp_path: Path, whole: bytes, length: int
    ) -> None:
        path = tmp_path / "weights.safetensors"
        path.write_bytes(whole[:length])
        assert "not a file of tensors only" in refusal(path)

    @pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin", ".ckpt", ""])
    def test_that_hold_code(self, refusal: Refused, tmp_path: Path, suffix: str) -> None:
        bomb = Bomb(tmp_path / "proof")
        pickle.loads(pickle.dumps(bomb))
        assert (tmp_path / "proof").exists(), "else this would prove nothing"
        (tmp_path / "proof").unlink()
        path = tmp_path / f"weights{suffix}"
        kinds: list[Change] = [
            lambda path: path.write_bytes(pickle.dumps({"a": bomb})),
            lambda path: path.write_bytes(pickle.dumps(bomb, protocol=0)),
            lambda path: torch.save({"state_dict": {self.NAME: bomb}}, path),
            lambda path: torch.save({"a": bomb}, path, _use_new_zipfile_serialization=False),
            lambda path: np.savez(path.open("wb"), a=np.array([bomb], dtype=object)),
            lambda path: torch.save(torch.nn.Linear(2, 2), path),
        ]
        for make in kinds:
            make(path)
            assert "not a file of tensors only" in refusal(path)

    @pytest.mark.parametrize(
        ("change", "part"),
        [
            (lambda old: torch.zeros(3, 3), "expected (16, 3, 3, 3)"),
            (lambda old: old[None], "expected (16, 3, 3, 3)"),
            (lambda old: torch.tensor(1.0), "expected (16, 3, 3, 3)"),
            (lambda old: old.to(torch.int8), "holds torch.int8"),
            (lambda old: old.bool(), "holds torch.bool"),
            (lambda old: old.to(torch.complex64), "complex numbers"),
            (lambda old: old * torch.nan, "NaN or infinite"),
            (lambda old: old / 0, "NaN or infinite"),
            (lambda old: old.to_sparse(), "not a dense tensor"),
            (lambda old: old.to("meta"), "not a dense tensor"),
            (lambda old: "text", "is not a tensor but str"),
            (lambda old: None, "is not a tensor but NoneType"),
            (lambda old: [old], "is not a tensor but list"),
        ],
    )
    def test_with_one_tensor_changed(
        self, refusal: Refused, tmp_path: Path, state: dict[str, Tensor],
        change: Callable[[Tensor], object], part: str,
    ) -> None:  # fmt: skip
        path = tmp_path / "weights.pth"
        torch.save({**state, self.NAME: change(state[self.NAME])}, path)
        line = refusal(path)
        assert part in line and self.NAME in line

    def test_of_something_else(
        self, refusal: Refused, tmp_path: Path, state: dict[str, Tensor]
    ) -> None:
        path = tmp_path / "weights.pth"
        contents: list[object] = [
            {}, [], 5, {"a": 1}, {1: torch.zeros(1)}, [torch.zeros(1)], {"state_dict": "x"},
            {"state_dict": {"state_dict": state}}, {**state, "one_more": torch.zeros(1)},
            {name: state[name] for name in list(state)[1:]},
            {"conv1.weight": torch.zeros(64, 3, 7, 7)},
        ]  # fmt: skip
        for content in contents:
            torch.save(content, path)
            refusal(path)

    def test_that_are_no_files(self, refusal: Refused, tmp_path: Path) -> None:
        makes: list[Change] = [
            Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path),
            lambda path: path.symlink_to("nowhere"), lambda path: path.symlink_to("/dev/zero"),
        ]  # fmt: skip
        for number, make in enumerate(makes):
            path = tmp_path / f"weights{number}.pth"
            make(path)
            refusal(path)
        with zipfile.ZipFile(tmp_path / "weights.zip", "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02.")
        refusal(tmp_path / "weights.zip")

    def test_of_a_timm_model(self, refusal: Refused, tmp_path: Path) -> None:
        import timm

        state = timm.create_model("resnet18").state_dict()
        first, buffer = "conv1.weight", "bn1.running_var"
        for name, tensor in {
            first: state[first].to(torch.int8), buffer: state[buffer].to(torch.int32)
        }.items():  # fmt: skip
            path = tmp_path / "weights.safetensors"
            safetensors.torch.save_file({**state, name: tensor}, path)
            spaces = tmp_path / "small.yaml"
            spaces.write_text(
                "study: {runner: patchcore}\nobjectives: [rwap]\n"
                "space: {backbone: resnet18, level1.extract: true}\n"
            )
            assert name in refusal(path, str(spaces))

    def test_in_a_checkpoint_of_a_supernet(self, refused: Refused, tmp_path: Path) -> None:
        for content in (b"", b"x" * 100, pickle.dumps(Bomb(tmp_path / "proof"))):
            path = tmp_path / "supernet.safetensors"
            path.write_bytes(content)
            assert str(path) in refused(tmp_path, "supernet", "verify", path)
        safetensors.torch.save_file({"first_conv.conv.weight": torch.tensor(1.0)}, path)
        assert str(path) in refused(tmp_path, "supernet", "verify", path)
        assert not (tmp_path / "proof").exists()


class TestCheckpoints:
    """What a distillation goes on from."""

    @pytest.fixture
    def parts(self) -> dict[str, Any]:
        layer = torch.nn.Linear(3, 2)
        optimiser = torch.optim.AdamW(layer.parameters())
        layer(torch.ones(1, 3)).sum().backward()
        optimiser.step()
        named = dict(layer.named_parameters())
        return {"tensors": named, "parameters": named, "optimiser": optimiser}

    def refusal(self, path: Path, parts: dict[str, Any]) -> str:
        before = {name: tensor.clone() for name, tensor in parts["tensors"].items()}
        with pytest.raises(StudyError) as caught:
            load_checkpoint(path, {"seed": "0"}, **parts)
        assert all(torch.equal(before[name], parts["tensors"][name]) for name in before)
        line = str(caught.value)
        assert line.startswith(f"{path}: ") and "\n" not in line
        return line

    @pytest.mark.parametrize(
        "state", ["", "[]", "5", "{}", '{"identity": 3}', '{"identity": [1]}', "{" * 9000,
                  '{"identity": {}}', '{"identity": {"seed": "1"}}']
    )  # fmt: skip
    def test_with_another_state(self, tmp_path: Path, parts: dict[str, Any], state: str) -> None:
        path = tmp_path / "checkpoint.safetensors"
        path.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}, {"state": state}))
        self.refusal(path, parts)

    @pytest.mark.parametrize(
        ("name", "tensor"),
        [("weight", torch.zeros(1)), ("weight", torch.zeros(3, 2)), ("weight", None),
         ("optimiser.exp_avg.weight", torch.zeros(5)),
         ("optimiser.exp_avg.nobody", torch.zeros(())),
         ("optimiser.step", torch.zeros(()))],
    )  # fmt: skip
    def test_with_another_tensor(
        self, tmp_path: Path, parts: dict[str, Any], name: str, tensor: Tensor | None
    ) -> None:
        path = tmp_path / "checkpoint.safetensors"
        save_checkpoint(path, **parts, state={"identity": {"seed": "0"}})
        load_checkpoint(path, {"seed": "0"}, **parts)
        kept = safetensors.torch.load_file(path)
        kept = {key: value for key, value in kept.items() if key != name}
        kept |= {} if tensor is None else {name: tensor}
        state = {"state": json.dumps({"identity": {"seed": "0"}})}
        path.write_bytes(safetensors.torch.save(kept, state))
        assert name in self.refusal(path, parts)

    def test_that_are_none(self, tmp_path: Path, parts: dict[str, Any]) -> None:
        path = tmp_path / "checkpoint.safetensors"
        for content in (b"", b"x" * 99, pickle.dumps(Bomb(tmp_path / "proof"))):
            path.write_bytes(content)
            self.refusal(path, parts)
        assert not (tmp_path / "proof").exists()
