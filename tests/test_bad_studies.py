"""Folders of studies that nobody should trust: refused, and nothing read or written elsewhere."""

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from damage import Change, Refused, changed, edited, linked, overwritten, removed, replaced
from hypothesis import example, given, settings, strategies as st

from autosearch import cli
from autosearch.contracts.trials import SCORED, Outcome, Status
from autosearch.errors import StudyError
from autosearch.storage.folder import StudyFolder

TINY = [
    "--executor", "local", "--set", "dataset.image_size=32", "--set", "backbone.weights=random",
    "--set", "space={width: 1.0, stage0.extraction_block: [1, 2], stage0.patch_size: [1, 2]}",
]  # fmt: skip


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


meta = partial(edited, "meta.json")
journal = partial(changed, "study.journal")


def spec(old: str, new: str) -> Change:
    """Change the text of ``spec.yaml``."""

    def apply(study: Path) -> None:
        text = (study / "spec.yaml").read_text()
        assert old in text
        (study / "spec.yaml").write_text(text.replace(old, new))

    return apply


def moved_and_linked(name: str) -> Change:
    """Replace a folder by a link to where it was moved."""

    def apply(study: Path) -> None:
        outside = study.parent / "outside"
        shutil.move(study / name, outside)
        (study / name).symlink_to(outside)

    return apply


STUDIES: dict[str, tuple[Change, str]] = {
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
    "meta: a folder": (replaced("meta.json", Path.mkdir), "meta.json"),
    "meta: endless": (linked("meta.json", "/dev/zero"), "meta.json"),
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
    "spec: gone": (removed("spec.yaml"), "no study here"),
    "spec: a folder": (replaced("spec.yaml", Path.mkdir), "no study here"),
    "journal: gone": (removed("study.journal"), "no study here"),
    "journal: a folder": (replaced("study.journal", Path.mkdir), "no study here"),
    "journal: nothing": (overwritten("study.journal", ""), "study.journal"),
    "journal: text": (overwritten("study.journal", "hello\nworld\n"), "study.journal"),
    "journal: zeros": (overwritten("study.journal", bytes(5000)), "study.journal"),
    "journal: another's": (overwritten("study.journal", "[1, 2]\n" * 9), "study.journal"),
    "journal: a PNG": (
        overwritten("study.journal", b"\x89PNG\r\n\x1a\n" + bytes(99)), "study.journal"
    ),
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
            StudyFolder(study).files.write_outcome(
                0, Outcome(Status.COMPLETE, artifacts={name: b"content"})
            )
        assert sorted(study.parent.rglob("*")) == before

    def test_a_trial_that_became_a_link_is_not_written_through(self, study: Path) -> None:
        moved_and_linked("trials/1")(study)
        outside = study.parent / "outside"
        before = sorted(outside.iterdir())
        folder = StudyFolder(study)
        for write in (
            lambda: folder.files.write_outcome(1, Outcome(Status.FAILED, traceback="T")),
            lambda: folder.files.write_test(1, {}),
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
        before, path = StudyFolder(study).trials.records(), study / "study.journal"
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
        assert StudyFolder(study).trials.records() == before and len(before) == 3

    @settings(max_examples=60, deadline=None)
    @given(st.floats(0, 1), st.binary(max_size=40).filter(lambda tail: b"op_code" not in tail))
    @example(1.0, b"\n")
    @example(0.0, b"")
    @example(0.5, b"\0" * 40)
    @example(0.9999999999999999, b"\n")
    def test_lose_no_trial_that_was_told_before_it(
        self, searched: Path, tmp_path_factory: pytest.TempPathFactory, share: float, tail: bytes
    ) -> None:
        whole = (searched / "study.journal").read_bytes()
        content = whole[: int(share * len(whole))] + tail
        # Lines that are whole; a tail may bring back the end of one.
        pairs = zip(content.split(b"\n")[:-1], whole.split(b"\n")[:-1], strict=False)
        lines = [json.loads(line) for line, before in pairs if line == before]
        told = sum(line["op_code"] == 6 and line["state"] == 1 for line in lines)
        folder = StudyFolder(tmp_path_factory.mktemp("cut"))
        shutil.copy(searched / "spec.yaml", folder.spec_path)
        folder.journal_path.write_bytes(content)
        try:
            folder.trials.storage(repair=True)
        except StudyError as error:
            # Nothing can have been told where not even the first line is there.
            assert not lines and str(folder.journal_path) in str(error)
            return
        assert sum(record.status in SCORED for record in folder.trials.records()) == told
