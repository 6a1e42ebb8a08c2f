import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from autosearch import __version__, cli
from autosearch.cli.configuration import short
from autosearch.cli.console import next_commands, trial_table
from autosearch.contracts.trials import Status, TrialRecord
from autosearch.data import demo_root
from autosearch.storage.folder import StudyFolder

TINY = [
    "--executor", "local",
    "--set", "dataset.image_size=64",
    "--set", "backbone.weights=random",
    "--set", "space.width=1.0",
    "--set", "space.coreset_ratio=0.1",
]  # fmt: skip


class Finished(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Finished]


@pytest.fixture
def autosearch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process, as its entry point would."""

    def run(*arguments: str | Path) -> Finished:
        monkeypatch.setattr(sys, "argv", ["autosearch", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return Finished(int(caught.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def refuses(autosearch: Command) -> Callable[..., str]:
    """Run a command that must end with one line on standard error and exit code 2."""

    def run(*arguments: str | Path) -> str:
        code, _, err = autosearch(*arguments)
        assert code == 2
        assert err.startswith("error: ") and err.count("\n") == 1
        return err

    return run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three trials, run by a process of its own."""
    results = tmp_path_factory.mktemp("results")
    command = ["run", "autopatch", *TINY, "--trials", "3", "--results", str(results)]
    done = subprocess.run(
        [sys.executable, "-c", "from autosearch.cli import main; main()", *command],
        capture_output=True, text=True, timeout=100, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "RANDOM WEIGHTS" in done.stdout and "synthetic" in done.stdout
    assert "3 complete" in done.stdout
    return results / "autopatch"


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    """A copy of the study that a test may change."""
    return Path(shutil.copytree(study, tmp_path / "autopatch"))


class TestHelp:
    @pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "-h"], ["data", "--help"]])
    def test_is_shown(self, autosearch: Command, arguments: list[str]) -> None:
        code, out, _ = autosearch(*arguments)
        assert code == 0 and "Usage: " in out

    def test_names_every_command(self, autosearch: Command) -> None:
        out = autosearch("--help").out
        names = ("run", "resume", "show", "spaces", "runners", "objectives", "data")
        assert all(f" {name} " in out for name in names)

    def test_version(self, autosearch: Command) -> None:
        assert autosearch("--version") == (0, f"autosearch {__version__}\n", "")

    def test_unknown_option_is_a_usage_error(self, autosearch: Command) -> None:
        code, _, err = autosearch("run", "autopatch", "--trails", "3")
        assert code == 2 and "--trails" in err and "Traceback" not in err


class TestLists:
    def test_spaces(self, autosearch: Command) -> None:
        code, out, _ = autosearch("spaces")
        rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}
        assert code == 0
        assert rows["autopatch"][:5] == [
            "autopatch", "21", "386,983,526,400,000", "gflops,", "rwap",
        ]  # fmt: skip
        assert rows["autopatch_fixed"][2] == f"{(5 * 16) ** 5:,}"
        assert rows["backbones"][:3] == ["patchcore", "11", "continuous"]

    def test_runners(self, autosearch: Command) -> None:
        code, out, _ = autosearch("runners")
        assert code == 0 and "autopatch" in out and "patchcore" in out

    def test_parameters_of_a_runner(self, autosearch: Command) -> None:
        code, out, _ = autosearch("runners", "autopatch")
        row = next(line for line in out.splitlines() if "stage1.extraction_block" in line)
        assert code == 0 and "null, 5, 6, 7, 8" in row

    def test_objectives(self, autosearch: Command) -> None:
        code, out, _ = autosearch("objectives")
        rows = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
        assert code == 0
        assert rows["gflops"][1:3] == ["lower", "GFLOP"] and rows["rwap"][1] == "higher"


class TestDataCheck:
    def test_of_the_demo(self, autosearch: Command) -> None:
        code, out, _ = autosearch("data", "check", demo_root(), "brick")
        assert code == 0 and "no problems found" in out
        assert "scratch" in out and "train" in out

    def test_shows_the_split_of_a_study(self, autosearch: Command) -> None:
        out = autosearch(
            "data", "check", demo_root(), "brick", "--set", "dataset.validation.real_per_type=2"
        ).out
        lines = [line.split() for line in out.splitlines()]
        assert ["type", "train", "(30)", "val", "(18)", "test", "(34)"] in lines
        assert ["scratch", "0", "2", "6"] in lines and ["good", "30", "10", "10"] in lines

    def test_of_a_broken_dataset_names_the_file(self, autosearch: Command, tmp_path: Path) -> None:
        shutil.copytree(demo_root() / "brick", tmp_path / "data" / "brick")
        broken = tmp_path / "data" / "brick" / "train" / "good" / "007.png"
        broken.write_bytes(broken.read_bytes()[:100])
        code, out, _ = autosearch("data", "check", tmp_path / "data", "brick")
        assert code == 1
        assert str(broken) in out.replace("\n", "") and "no problems found" not in out

    def test_of_what_is_not_there(self, refuses: Callable[..., str], tmp_path: Path) -> None:
        assert str(tmp_path / "none") in refuses("data", "check", tmp_path / "none", "brick")
        error = refuses("data", "check", demo_root(), "brik")
        assert "dataset.category: 'brik'" in error and "brick, grass, gravel" in error


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["autopach"], ["SPACE: 'autopach'", "did you mean 'autopatch'?"]),
            (["autopatch", "--set", "study.trails=3"], ["study.trails: 3", "'trials'?"]),
            (["autopatch", "--set", "space.wdth=1"], ["space.wdth", "did you mean 'width'?"]),
            (["autopatch", "--set", "space.width=3"], ["space.width: 3", "[1.0, 1.2]"]),
            (["autopatch", "--set", "objectives=[rwpa]"], ["objectives: 'rwpa'", "'rwap'?"]),
            (["autopatch", "--set", "study.runner=patchcor"], ["study.runner", "'patchcore'?"]),
            (["autopatch", "--set", "study.seed=2024-13-45"], ["--set study.seed", "YAML"]),
            (["autopatch", "--timeout", "soon"], ["study.timeout: 'soon'"]),
            (["autopatch", "--name", "../up"], ["study.name: '../up'"]),
        ],
    )
    def test_of_a_spec(
        self,
        refuses: Callable[..., str],
        tmp_path: Path,
        arguments: list[str],
        parts: list[str],
    ) -> None:
        error = refuses("run", *arguments, "--results", tmp_path / "results")
        assert all(part in error for part in parts)
        assert not (tmp_path / "results").exists()

    def test_of_a_file_that_is_no_spec(self, refuses: Callable[..., str], tmp_path: Path) -> None:
        path = tmp_path / "odd.yaml"
        path.write_text("study: {name: [}\n")
        assert f"{path}:1" in refuses("run", path)

    def test_of_missing_data(self, refuses: Callable[..., str], tmp_path: Path) -> None:
        root = tmp_path / "none"
        error = refuses("run", "autopatch", *TINY, "--set", f"dataset.root={root}",
                        "--results", tmp_path / "results")  # fmt: skip
        assert str(root) in error
        assert not (tmp_path / "results").exists()

    def test_of_masks_that_vanish_when_resized(
        self, refuses: Callable[..., str], tmp_path: Path
    ) -> None:
        # Every trial would fail on it, so none is started.
        category = tmp_path / "data" / "dots"
        grey = np.random.default_rng(0).integers(0, 255, (400, 400), dtype=np.uint8)
        dot = np.zeros((400, 400), dtype=np.uint8)
        dot[5, 5] = 255
        folders = {"train/good": 6, "test/good": 2, "test/dot": 2, "ground_truth/dot": 2}
        for folder, number in folders.items():
            (category / folder).mkdir(parents=True)
            for i in range(number):
                mask = folder.startswith("ground_truth")
                name = f"{i}_mask.png" if mask else f"{i}.png"
                pixels = dot if mask else np.roll(grey, 10 * i + len(folder))
                Image.fromarray(pixels).save(category / folder / name)
        given = ["dataset.root=" + str(tmp_path / "data"), "dataset.category=dots"]
        given.append("dataset.regions=resized")
        options = [part for text in (*given, "dataset.image_size=64") for part in ("--set", text)]
        error = refuses("run", "backbones", *options, "--results", tmp_path / "results")
        assert "test/dot/0.png: no anomalous pixel" in error and "mask_rule" in error
        assert not (tmp_path / "results").exists()

    def test_of_a_study_in_the_way(self, refuses: Callable[..., str], copy: Path) -> None:
        before = sorted(copy.rglob("*")), (copy / "study.journal").read_bytes()
        error = refuses("run", "autopatch", *TINY, "--results", copy.parent)
        assert "autosearch resume" in error and "--name" in error
        assert (sorted(copy.rglob("*")), (copy / "study.journal").read_bytes()) == before

    def test_of_a_study_made_from_something_else(
        self, refuses: Callable[..., str], copy: Path
    ) -> None:
        error = refuses("run", "autopatch", *TINY, "--set", "dataset.image_size=96",
                        "--set", "dataset.category=grass", "--resume",
                        "--results", copy.parent)  # fmt: skip
        assert "another data" in error and " then, " in error

    @pytest.mark.parametrize("command", ["show", "resume"])
    def test_of_a_missing_study(
        self, refuses: Callable[..., str], tmp_path: Path, command: str
    ) -> None:
        assert f"{tmp_path}: no study here" in refuses(command, tmp_path)

    def test_of_a_trial_that_is_not_there(self, refuses: Callable[..., str], study: Path) -> None:
        assert "no trial 3; there are 3" in refuses("show", study, "--trial", "3")

    def test_of_results_that_cannot_be_written(
        self, refuses: Callable[..., str], tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        error = refuses("run", "autopatch", *TINY, "--results", tmp_path / "file")
        assert str(tmp_path / "file") in error

    def test_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", "from autosearch.cli import main; main()", "show", "missing"],
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: missing: no study here (no spec.yaml and study.journal)\n"


class TestStudy:
    def test_leaves_all_its_files(self, study: Path) -> None:
        names = {path.name for path in study.iterdir()}
        assert {"spec.yaml", "meta.json", "study.journal", "pareto.csv", "trials"} <= names
        assert not [
            name for name in names if name.startswith(".") or name.endswith(".journal.lock")
        ]
        meta = json.loads((study / "meta.json").read_text())
        assert meta["seed"] == 0 and meta["data"]["synthetic"] is True
        assert [weights["source"] for weights in meta["weights"]] == ["random"]
        assert StudyFolder(study).load_spec().study.trials == 3
        for record in StudyFolder(study).trials.records():
            sheet = study / "trials" / str(record.number) / "maps.jpg"
            assert sheet.read_bytes().startswith(b"\xff\xd8")

    def test_json(self, autosearch: Command, study: Path) -> None:
        code, out, err = autosearch("show", study, "--json")
        shown = json.loads(out)
        assert (code, err) == (0, "")
        assert set(shown) == {"study", "counts", "front"}
        names = {"complete", "failed", "infeasible", "pruned", "running", "cached"}
        assert set(shown["counts"]) == names and sum(shown["counts"].values()) == 3
        assert shown["study"]["objectives"] == {"gflops": "minimize", "rwap": "maximize"}
        assert shown["study"]["budget"] == shown["study"]["finished"] == 3

        records = {record.number: record for record in StudyFolder(study).trials.records()}
        points = {n: (r.values["gflops"], -r.values["rwap"]) for n, r in records.items()}
        best = [
            n for n, p in points.items()
            if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points.values())
        ]  # fmt: skip
        assert sorted(trial["number"] for trial in shown["front"]) == best
        for trial in shown["front"]:
            assert set(trial) == {"number", "values", "params"}
            assert trial["values"] == records[trial["number"]].values
            assert trial["params"] == records[trial["number"]].params
            assert len(trial["params"]) == 22

    def test_csv_is_the_file_written_at_the_end(self, autosearch: Command, study: Path) -> None:
        code, out, _ = autosearch("show", study, "--csv")
        front = json.loads(autosearch("show", study, "--json").out)["front"]
        assert code == 0 and out == (study / "pareto.csv").read_text()
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [int(row["number"]) for row in rows] == [trial["number"] for trial in front]
        assert float(rows[0]["gflops"]) == front[0]["values"]["gflops"]
        assert rows[0]["stage0.patch_size"] == str(front[0]["params"]["stage0.patch_size"])

    def test_front_table(self, autosearch: Command, study: Path) -> None:
        code, out, _ = autosearch("show", study)
        assert code == 0 and "Pareto front" in out and "RANDOM WEIGHTS" in out
        assert "3 complete of 3" in out

    def test_one_trial(self, autosearch: Command, study: Path) -> None:
        code, out, _ = autosearch("show", study, "--trial", "0")
        values = StudyFolder(study).trials.records()[0].values
        assert code == 0 and "complete" in out
        assert f"{values['rwap']:.4f}" in out and "stage4.patch_size" in out
        assert "maps.jpg" in out and "curves.json" not in out

    def test_one_trial_with_curves(self, autosearch: Command, copy: Path) -> None:
        path = copy / "trials" / "0" / "curves.json"
        path.write_text("{}")
        assert f"file {path}" in autosearch("show", copy, "--trial", "0").out.replace("\n", "")

    def test_resume_adds_trials(self, autosearch: Command, copy: Path) -> None:
        before = StudyFolder(copy).trials.records()
        code, out, _ = autosearch("resume", copy, "--trials", "4", "--executor", "local")
        after = StudyFolder(copy).trials.records()
        assert code == 0 and "results in" in out
        assert after[:3] == before and [record.number for record in after] == [0, 1, 2, 3]
        assert StudyFolder(copy).load_spec().study.trials == 4
        assert json.loads(autosearch("show", copy, "--json").out)["study"]["finished"] == 4

    def test_resume_of_a_finished_study_changes_no_trial(
        self, autosearch: Command, copy: Path
    ) -> None:
        before = StudyFolder(copy).trials.records()
        assert autosearch("resume", copy, "--executor", "local").code == 0
        assert StudyFolder(copy).trials.records() == before

    def test_run_with_resume_goes_on(self, autosearch: Command, copy: Path) -> None:
        code, _, _ = autosearch("run", "autopatch", *TINY, "--trials", "4", "--resume",
                                "--results", copy.parent)  # fmt: skip
        assert code == 0 and len(StudyFolder(copy).trials.records()) == 4

    def test_show_reads_what_nobody_may_write(self, autosearch: Command, copy: Path) -> None:
        journal = copy / "study.journal"
        with journal.open("ab") as file:
            file.write(b'{"op_code":4,')
        content = journal.read_bytes()
        assert json.loads(autosearch("show", copy, "--json").out)["counts"]["complete"] == 3
        assert journal.read_bytes() == content

    def test_is_the_same_search_again(
        self, autosearch: Command, study: Path, tmp_path: Path
    ) -> None:
        code, _, _ = autosearch("run", "autopatch", *TINY, "--trials", "3",
                                "--results", tmp_path)  # fmt: skip
        assert code == 0
        again = StudyFolder(tmp_path / "autopatch").trials.records()
        for one, other in zip(StudyFolder(study).trials.records(), again, strict=True):
            assert (one.params, one.canonical) == (other.params, other.canonical)
            assert one.values == pytest.approx(other.values, rel=1e-4)

    def test_failed_trials_can_be_read(self, autosearch: Command, tmp_path: Path) -> None:
        # Nothing is extracted anywhere: every trial is told apart before it is built.
        nothing = [f"--set=space.stage{s}.extraction_block=null" for s in range(5)]
        code, out, _ = autosearch("run", "autopatch", *TINY, *nothing, "--trials", "2",
                                  "--results", tmp_path)  # fmt: skip
        assert code == 1 and "2 infeasible" in out and "Next:" not in out
        assert "No trial completed.\n2 of 2 trials are infeasible: " in out
        assert f"See: autosearch show {tmp_path / 'autopatch'} --trial 0" in out
        shown = json.loads(autosearch("show", tmp_path / "autopatch", "--json").out)
        assert shown["front"] == [] and shown["counts"]["infeasible"] == 2
        assert autosearch("show", tmp_path / "autopatch", "--csv").out == "number\n"
        out = autosearch("show", tmp_path / "autopatch", "--trial", "1").out
        assert "infeasible" in out and "no features" in out


def test_a_trial_with_odd_names_and_values_can_be_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    params = {"stage0.kernel_size": 5, "a._odd": None, "b.": "[red]", "[c]": True}
    record = TrialRecord(7, Status.FAILED, params, params, {}, {"x": math.nan, "y": math.inf})
    Console().print(trial_table(record))
    out = capsys.readouterr().out
    assert "nan" in out and "inf" in out and "[red]" in out and "[c]" in out
    assert short(record)


def test_output_goes_to_a_pipe_that_closes(study: Path) -> None:
    command = f"{sys.executable} -c 'from autosearch.cli import main; main()' show {study} --csv"
    done = subprocess.run(
        ["sh", "-c", f"{command} | head -n 1"], capture_output=True, text=True, env=os.environ
    )
    assert done.stdout.startswith("number,gflops,rwap,")


def test_commands_to_type_next_can_be_pasted() -> None:
    told = next_commands(Path("my results/a"), [], [], {})
    assert all("'my results/a'" in line for line in told)


def test_the_budget_to_type_next_halves_the_front() -> None:
    front = [
        TrialRecord(number, Status.COMPLETE, {}, values={"rwap": rwap, "ms": cost})
        for number, (cost, rwap) in enumerate([(1.25, 0.1), (30.0, 0.4), (2.0, 0.2), (40.0, 0.5)])
    ]
    ways = {"rwap": "maximize", "ms": "minimize"}
    told = "\n".join(next_commands(Path("a"), front, front, ways))
    assert "--budget 'ms <= 2'" in told
    close = [replace(record, values={"ms": 0.10424}) for record in front]
    assert "'ms <= 0.105'" in "\n".join(next_commands(Path("a"), close, close, ways))
    assert "--budget" not in "\n".join(next_commands(Path("a"), front[:1], front[:1], ways))
