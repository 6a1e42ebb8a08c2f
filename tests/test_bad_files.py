"""Weights, checkpoints, results and exports that nobody should trust: refused, and nothing run."""

import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image
from torch import Tensor

from autosearch import cli
from autosearch.errors import StudyError
from autosearch.export.folder import seal
from autosearch.results import StudyFolder
from autosearch.supernets import ofa_layout
from autosearch.supernets.checkpoint import load_checkpoint, save_checkpoint
from autosearch.trials import SCORED, Outcome, Status

Refused = Callable[..., str]
Make = Callable[[Path], object]

TINY = [
    "--executor", "local", "--set", "dataset.image_size=32", "--set", "backbone.weights=random",
    "--set", "space={width: 1.0, stage0.extraction_block: [1, 2], stage0.patch_size: [1, 2]}",
]  # fmt: skip


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
            given = [*TINY[:2], "--set", f"backbone.weights={path}"]
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
        kinds: list[Make] = [
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
        makes: list[Make] = [
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


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three real trials."""
    results = tmp_path_factory.mktemp("searched")
    command = ["run", "autopatch", *TINY, "--trials", "3", "--results", str(results)]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(sys, "argv", ["autosearch", *command])
        cli.main()
    assert not caught.value.code
    return results / "autopatch"


@pytest.fixture
def study(searched: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(searched, tmp_path / "autopatch"))


def meta(change: Callable[[dict[str, Any]], object]) -> Make:
    """Change what stands in ``meta.json``."""

    def apply(study: Path) -> None:
        content = json.loads((study / "meta.json").read_text())
        change(content)
        (study / "meta.json").write_text(json.dumps(content))

    return apply


def overwritten(name: str, content: str | bytes) -> Make:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda study: (study / name).write_bytes(data)


def spec(old: str, new: str) -> Make:
    """Change the text of ``spec.yaml``."""

    def apply(study: Path) -> None:
        text = (study / "spec.yaml").read_text()
        assert old in text
        (study / "spec.yaml").write_text(text.replace(old, new))

    return apply


def instead(name: str, make: Make) -> Make:
    """Put something else in the place of a file."""

    def apply(study: Path) -> None:
        (study / name).unlink()
        make(study / name)

    return apply


def journal(change: Callable[[bytes], bytes]) -> Make:
    def apply(study: Path) -> None:
        path = study / "study.journal"
        path.write_bytes(change(path.read_bytes()))

    return apply


def moved_and_linked(name: str) -> Make:
    """Replace a folder by a link to where it was moved."""

    def apply(study: Path) -> None:
        outside = study.parent / "outside"
        shutil.move(study / name, outside)
        (study / name).symlink_to(outside)

    return apply


STUDIES: dict[str, tuple[Make, str]] = {
    "a newer program": (meta(lambda m: m.update(format=2, autosearch="9.1")), "autosearch 9.1"),
    "meta: half": (lambda study: os.truncate(study / "meta.json", 99), "meta.json"),
    "meta: a list": (overwritten("meta.json", "[]"), "meta.json"),
    "meta: a number": (overwritten("meta.json", "5"), "meta.json"),
    "meta: nothing": (overwritten("meta.json", ""), "meta.json"),
    "meta: nested": (overwritten("meta.json", "[" * 100_000), "meta.json"),
    "meta: no text": (overwritten("meta.json", b"\xff\xfe{"), "meta.json"),
    "meta: a large number": (overwritten("meta.json", "9" * 9000), "meta.json"),
    "meta: data": (meta(lambda m: m.update(data=3)), "meta.json: cannot be read (data"),
    "meta: counts": (meta(lambda m: m["data"].update(counts=[1])), "data.counts"),
    "meta: no hash": (meta(lambda m: m["data"].pop("sha256") and None), "data.sha256"),
    "meta: weights": (meta(lambda m: m.update(weights="x")), "weights"),
    "meta: a weight": (meta(lambda m: m.update(weights=[{"name": "a"}])), "weights.0.source"),
    "meta: packages": (meta(lambda m: m.update(packages=["torch"])), "packages"),
    "meta: a folder": (instead("meta.json", Path.mkdir), "meta.json"),
    "meta: endless": (
        instead("meta.json", lambda path: path.symlink_to("/dev/zero")), "meta.json"
    ),
    "spec: no YAML": (overwritten("spec.yaml", "a: ["), "spec.yaml:1"),
    "spec: nothing": (overwritten("spec.yaml", ""), "spec.yaml"),
    "spec: no text": (overwritten("spec.yaml", b"\xff"), "spec.yaml"),
    "spec: code": (
        overwritten("spec.yaml", "study: !!python/object/apply:os.abort []"), "os.abort"
    ),
    "spec: of a newer program": (spec("seed:", "sead:"), "study.sead"),
    "spec: another runner": (spec("runner: autopatch", "runner: patchcore"), "runner"),
    "spec: another objective": (spec("- gflops", "- gmacs"), "objectives"),
    "spec: objectives turned": (spec("- gflops\n- rwap", "- rwap\n- gflops"), "objectives"),
    "spec: another space": (spec("- 2\n", "- 3\n"), "space"),
    "spec: gone": (lambda study: (study / "spec.yaml").unlink(), "no study here"),
    "spec: a folder": (instead("spec.yaml", Path.mkdir), "no study here"),
    "journal: gone": (lambda study: (study / "study.journal").unlink(), "no study here"),
    "journal: a folder": (instead("study.journal", Path.mkdir), "no study here"),
    "journal: nothing": (journal(lambda old: b""), "study.journal"),
    "journal: text": (journal(lambda old: b"hello\nworld\n"), "study.journal"),
    "journal: zeros": (journal(lambda old: bytes(5000)), "study.journal"),
    "journal: another's": (journal(lambda old: b"[1, 2]\n" * 9), "study.journal"),
    "journal: a PNG": (journal(lambda old: b"\x89PNG\r\n\x1a\n" + bytes(99)), "study.journal"),
    "journal: its head cut off": (journal(lambda old: old[30:]), "study.journal"),
    "journal: its first line lost": (
        journal(lambda old: old.partition(b"\n")[2]), "study.journal"
    ),
    "journal: bytes changed": (
        journal(lambda old: old[:900] + b"\xff\xfe" + old[902:]), "study.journal"
    ),
    "journal: unheard of": (
        journal(lambda old: old + b'{"op_code":99,"worker_id":"w"}\n'), "study.journal"
    ),
    "a trial linked": (moved_and_linked("trials/0"), "trials/0"),
    "all trials linked": (moved_and_linked("trials"), "trials"),
}  # fmt: skip


class TestStudies:
    @pytest.mark.parametrize("case", STUDIES)
    def test_that_are_damaged(self, refused: Refused, study: Path, case: str) -> None:
        change, part = STUDIES[case]
        change(study)
        parent = study.parent
        for command in (["show"], ["report"], ["resume", "--executor", "local"],
                        ["export", "--trial", "0"]):  # fmt: skip
            assert part in refused(parent, command[0], study, *command[1:])

    @pytest.mark.parametrize(
        "content",
        ["", "[", "[]", "5", "[" * 100_000, '{"metrics": 5}', '{"metrics": {"rwap": "high"}}',
         '{"intervals": {"rwap": [1]}}', '{"types": [1]}', '{"types": {"a": 1}}',
         '{"trial": "0"}', '{"trial": -1}', '{"validation": {"reproduced": 3}}', '{"data": []}'],
        ids=range(14),
    )  # fmt: skip
    def test_whose_test_figures_are_damaged(
        self, refused: Refused, study: Path, content: str
    ) -> None:
        (study / "trials/0/test.json").write_text(content)
        for command in (["show"], ["show", "--json"], ["show", "--trial", "0"], ["report"]):
            line = refused(study.parent, command[0], study, *command[1:])
            assert "trials/0/test.json: cannot be read" in line

    @pytest.mark.parametrize("content", ["{}", '{"metrics": {"rwap": 0.5}}'])
    def test_whose_test_figures_say_little_are_shown(
        self, study: Path, monkeypatch: pytest.MonkeyPatch, content: str
    ) -> None:
        (study / "trials/0/test.json").write_text(content)
        for command in (["show"], ["show", "--trial", "0"], ["report"]):
            monkeypatch.setattr(sys, "argv", ["autosearch", command[0], str(study), *command[1:]])
            with pytest.raises(SystemExit) as caught:
                cli.main()
            assert not caught.value.code

    def test_with_a_file_in_the_place_of_a_trial(self, refused: Refused, study: Path) -> None:
        shutil.rmtree(study / "trials/0")
        (study / "trials/0").write_text("x")
        assert "trials/0" in refused(study, "evaluate", study, "--trial", "0")

    def test_no_text_of_a_trial_is_obeyed_or_fetched_from_elsewhere(
        self, study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        trial = study / "trials/0"
        (trial / "traceback.txt").write_bytes(b"\x1b]0;title\x07 \xff [red]\nsecond line")
        (study.parent / "secret").write_text("secret")
        (trial / "link.txt").symlink_to(study.parent / "secret")
        os.mkfifo(trial / "pipe.txt")
        monkeypatch.setattr(sys, "argv", ["autosearch", "show", str(study), "--trial", "0"])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out = capsys.readouterr().out
        assert not caught.value.code and "\x1b" not in out and "secret" not in out
        assert "\\x1b]0;title\\x07" in out and "[red]" in out and "\nsecond line" in out

    @pytest.mark.parametrize("name", ["../up", "/tmp/abs", "a/b", "..", "."])
    def test_no_artifact_leads_out_of_its_trial(self, study: Path, name: str) -> None:
        before = sorted(study.parent.rglob("*"))
        with pytest.raises(StudyError, match="outside of the study's folder"):
            StudyFolder(study).write_outcome(
                0, Outcome(Status.COMPLETE, artifacts={name: b"content"})
            )
        assert sorted(study.parent.rglob("*")) == before

    def test_a_trial_that_became_a_link_is_not_written_through(self, study: Path) -> None:
        moved_and_linked("trials/1")(study)
        outside = study.parent / "outside"
        before = sorted(outside.iterdir())
        folder = StudyFolder(study)
        for write in (
            lambda: folder.write_outcome(1, Outcome(Status.FAILED, traceback="T")),
            lambda: folder.write_test(1, {}),
        ):
            with pytest.raises(StudyError, match="outside of the study's folder"):
                write()
        assert sorted(outside.iterdir()) == before


TAILS = {
    "half a line": b'{"op_code":8,"worker_id":"w","trial_id":0,"user_at',
    "half a line and an end": b'{"op_code":8,"worker_id":"w"\n',
    "zeros": bytes(4096),
    "zeros and an end": bytes(40) + b"\n",
    "bytes": b"\x80\x81\xfe\n\xff\n",
    "text": b"hello\nworld\n",
    "other JSON": b"[1]\n5\nnull\n{}\n",
    "much": b"x" * 1_000_000,
}


class TestJournalsWithABrokenEnd:
    @pytest.mark.parametrize("case", TAILS)
    def test_are_mended_when_the_study_goes_on(
        self, study: Path, monkeypatch: pytest.MonkeyPatch, case: str
    ) -> None:
        before, path = StudyFolder(study).records(), study / "study.journal"
        whole = path.read_bytes()
        with path.open("ab") as file:
            file.write(TAILS[case])
        monkeypatch.setattr(
            sys, "argv", ["autosearch", "resume", str(study), "--executor", "local"]
        )
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert not caught.value.code
        assert path.read_bytes().startswith(whole)
        assert StudyFolder(study).records() == before and len(before) == 3

    @settings(max_examples=60, deadline=None)
    @given(st.floats(0, 1), st.binary(max_size=40).filter(lambda tail: b"op_code" not in tail))
    @example(1.0, b"\n")
    @example(0.0, b"")
    @example(0.5, b"\0" * 40)
    def test_lose_no_trial_that_was_told_before_it(
        self, searched: Path, tmp_path_factory: pytest.TempPathFactory, share: float, tail: bytes
    ) -> None:
        whole = (searched / "study.journal").read_bytes()
        kept = whole[: int(share * len(whole))]
        lines = [json.loads(line) for line in kept.split(b"\n")[:-1]]
        told = sum(line["op_code"] == 6 and line["state"] == 1 for line in lines)
        folder = StudyFolder(tmp_path_factory.mktemp("cut"))
        shutil.copy(searched / "spec.yaml", folder.spec_path)
        folder.journal_path.write_bytes(kept + tail)
        try:
            folder.storage(repair=True)
        except StudyError as error:
            # Nothing can have been told where not even the first line is there.
            assert not lines and str(folder.journal_path) in str(error)
            return
        assert sum(record.status in SCORED for record in folder.records()) == told


SIDE = 16


def graph(side: int = SIDE, outputs: int = 2, scale: float = 1.0, secret: bool = False) -> bytes:
    """A graph with the interface of an exported model, whose map is the mean of the channels."""
    nodes = [
        helper.make_node("Mul", ["images", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "one"], ["anomaly_map"], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map", "sides"], ["score"], keepdims=0),
    ]
    factor = helper.make_tensor("scale", TensorProto.FLOAT, [1], [scale])
    if secret:
        factor.ClearField("float_data")
        factor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "secret", "offset": "0", "length": "4"}.items():
            entry = factor.external_data.add()
            entry.key, entry.value = key, value
    constants = [
        factor,
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("sides", TensorProto.INT64, [2], [1, 2]),
    ]
    info = helper.make_tensor_value_info
    images = info("images", TensorProto.FLOAT, ["n", 3, side, side])
    answers = [
        info("anomaly_map", TensorProto.FLOAT, ["n", side, side]),
        info("score", TensorProto.FLOAT, ["n"]),
    ]
    made = helper.make_graph(nodes, "g", [images], answers[:outputs], constants)
    opsets = [helper.make_opsetid("", 18)]
    model: onnx.ModelProto = helper.make_model(made, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def described(**changes: object) -> dict[str, Any]:
    reached = {"tp": 1, "fp": 0, "fn": 0, "tn": 1}
    limit = {"value": 0.5, "rule": "f1", "max_fpr": None, "reached": reached}
    return {
        "study": {"name": "bright", "trial": 3},
        "input": {"shape": ["batch", 3, SIDE, SIDE]},
        "thresholds": {"image": limit, "pixel": limit},
        "display": {"low": 0.0, "high": 1.0},
        **changes,
    }


def export(folder: Path, content: bytes, **changes: object) -> None:
    """Write a model folder whose hashes hold, as a forger would."""
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "model.json").write_text(seal(described(**changes), {"model.onnx": content}))


def changed(name: str, change: Callable[[bytes], bytes]) -> Make:
    return lambda model: (model / name).write_bytes(change((model / name).read_bytes()))


def manifest(change: Callable[[dict[str, Any]], object]) -> Make:
    """Change the description, as somebody who knows nothing of hashes would."""

    def apply(model: Path) -> None:
        content = json.loads((model / "model.json").read_text())
        change(content)
        (model / "model.json").write_text(json.dumps(content))

    return apply


def forged(content: bytes | None = None, **changes: object) -> Make:
    return lambda model: export(model, graph() if content is None else content, **changes)


EXPORTS: dict[str, Make] = {
    "a bit of the graph": changed("model.onnx", lambda old: old[:90] + b"?" + old[91:]),
    "half of the graph": changed("model.onnx", lambda old: old[: len(old) // 2]),
    "no graph": lambda model: (model / "model.onnx").unlink(),
    "a folder as graph": lambda model: (
        (model / "model.onnx").unlink(), (model / "model.onnx").mkdir()
    ),
    "a device as graph": lambda model: (
        (model / "model.onnx").unlink(), (model / "model.onnx").symlink_to("/dev/zero")
    ),
    "a pipe as graph": lambda model: (
        (model / "model.onnx").unlink(), os.mkfifo(model / "model.onnx")
    ),
    "another file as graph": lambda model: (
        (model / "model.onnx").unlink(), (model / "model.onnx").symlink_to("/etc/passwd")
    ),
    "a threshold": manifest(lambda m: m["thresholds"]["image"].update(value=9.0)),
    "a path": manifest(lambda m: m["files"].update({"../secret": {"bytes": 1, "sha256": "0"}})),
    "files": manifest(lambda m: m.update(files=[])),
    "a newer program": manifest(lambda m: m.update(version=2)),
    "no JSON": changed("model.json", lambda old: old[:50]),
    "nested JSON": changed("model.json", lambda old: b"[" * 100_000),
    "an endless description": lambda model: (
        (model / "model.json").unlink(), (model / "model.json").symlink_to("/dev/zero")
    ),
    "a list": changed("model.json", lambda old: b"[]"),
    "forged: no graph": forged(b"x" * 100),
    "forged: a pickle": forged(b"\x80\x04cos\nabort\n)R."),
    "forged: a graph of another size": forged(graph(32)),
    "forged: one output": forged(graph(outputs=1)),
    "forged: a graph that answers NaN": forged(graph(scale=float("nan"))),
    "forged: tensors in another file": forged(graph(secret=True)),
    "forged: another size": forged(input={"shape": ["batch", 3, 32, 32]}),
    "forged: no size": forged(input={"shape": []}),
    "forged: a size of zero": forged(input={"shape": [0]}),
    "forged: a huge size": forged(input={"shape": [10**9]}),
    "forged: a size in words": forged(input={"shape": ["wide"]}),
    "forged: no thresholds": forged(thresholds={}),
    "forged: a threshold in words": forged(thresholds={"image": "high", "pixel": "high"}),
    "forged: no study": forged(study=3),
    "forged: no scale": forged(display=[]),
    "forged: a scale in words": forged(display={"low": "dark", "high": "bright"}),
}  # fmt: skip


class TestExports:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        export(tmp_path / "model", graph())
        Image.new("RGB", (20, 20), "red").save(tmp_path / "image.png")
        np.float32(1.0).tofile(tmp_path / "secret")
        return tmp_path / "model"

    @pytest.mark.parametrize("case", EXPORTS)
    def test_that_are_damaged_or_forged(
        self, refused: Refused, model: Path, monkeypatch: pytest.MonkeyPatch, case: str
    ) -> None:
        # Where a file named by a graph would be looked for.
        monkeypatch.chdir(model.parent)
        EXPORTS[case](model)
        line = refused(
            model.parent, "predict", model, model.parent / "image.png",
            "--out", model.parent / "out",
        )  # fmt: skip
        assert "model" in line and not (model.parent / "out").exists()

    def test_tensors_in_another_file_are_not_read_by_openvino_either(
        self, refused: Refused, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("openvino")
        monkeypatch.chdir(model.parent)
        export(model, graph(secret=True))
        command = ["predict", model, "image.png", "--out", "out", "--provider", "openvino"]
        assert "other files" in refused(model.parent, *command)

    def test_images_with_names_that_are_no_text_are_skipped(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        folder = tmp_path / "in"
        folder.mkdir()
        for name in ("a.png", "b\udcff.png", "c\n\x1b[2J.png"):
            shutil.copy(tmp_path / "image.png", folder / name)
        (folder / "d\x1b[2J.png").write_bytes(b"x")
        command = ["predict", str(model), str(folder), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["autosearch", *command])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out = capsys.readouterr().out
        assert caught.value.code == 1 and "\x1b" not in out
        report = json.loads((tmp_path / "out" / "scores.json").read_text())
        assert [Path(entry["path"]).name for entry in report["images"]] == [
            "a.png", "c\n\x1b[2J.png"
        ]  # fmt: skip
        assert len(report["skipped"]) == 2
