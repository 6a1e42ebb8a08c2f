"""What a person meets first: doctor, completion, examples, errors that name a page."""

import importlib.metadata
import json
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from autosearch import cli
from autosearch.api import machine
from autosearch.api.machine import better_kernel, examine
from autosearch.cli.completion import space_names, study_folders, trial_numbers
from autosearch.cli.examples import EXAMPLES
from autosearch.cli.links import PAGES, page_of
from autosearch.errors import ConfigError, DataError, StudyError, WeightsError

ROOT = Path(__file__).resolve().parents[1]
COMMAND = typer.main.get_command(cli.app)


def commands(command=COMMAND, name: str = ""):
    """All commands that do something, by name."""
    if not hasattr(command, "commands"):
        return {name: command}
    found = {}
    for part, one in command.commands.items():
        found |= commands(one, f"{name} {part}".strip())
    return found


@pytest.fixture
def autosearch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autosearch", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def found(name: str, **given) -> machine.Finding:
    (one,) = [finding for finding in examine(**given) if finding.name == name]
    return one


class TestDoctor:
    def test_all_that_is_needed_is_here(self, autosearch) -> None:
        code, out, _ = autosearch("doctor")
        assert code == 0 and "All that a search needs is there." in out
        for name in ("Python", "torch", "cores", "memory", "cache", "FAISS", "weights"):
            assert name in out

    def test_json_has_the_same(self, autosearch) -> None:
        rows = json.loads(autosearch("doctor", "--json")[1])
        assert {"name", "found", "state", "remedy"} == set(rows[0])
        assert [row["name"] for row in rows] == [one.name for one in examine()]
        assert all(row["remedy"] for row in rows if row["state"] != "ok")

    def test_a_missing_package_is_broken(
        self, autosearch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        there = importlib.metadata.version

        def version(name: str) -> str:
            if name == "optuna":
                raise importlib.metadata.PackageNotFoundError
            return "0.1" if name == "timm" else there(name)

        monkeypatch.setattr(machine.importlib.metadata, "version", version)
        code, out, _ = autosearch("doctor")
        assert code == 1 and "optuna is missing" in out and "timm is 0.1" in out
        assert "pip install 'optuna" in out and "All that" not in out

    def test_a_place_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        one = found("results", results=tmp_path / "file" / "results")
        assert one.state == "broken" and "--results" in one.remedy
        assert found("results", results=tmp_path / "new" / "results").state == "ok"

    def test_a_network_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setattr(machine, "_HUB", "http://127.0.0.1:9")
        one = machine._asked_in_background()()
        assert one.state == "absent" and "bundled" in one.remedy

    @pytest.mark.parametrize(
        ("kernel", "flags", "better"),
        [
            ("Zen", {"AVX2", "AVX512"}, "SkylakeX"),
            ("Haswell", {"AVX2", "AVX512"}, "SkylakeX"),
            ("Zen", {"AVX2"}, None),
            ("SkylakeX", {"AVX2", "AVX512"}, None),
            ("Prescott", {"AVX2"}, "Haswell"),
            ("Prescott", set(), None),
        ],
    )
    def test_kernels(self, kernel: str, flags: set[str], better: str | None) -> None:
        assert better_kernel(kernel, flags) == better


class TestExamples:
    @pytest.mark.parametrize("name", commands())
    def test_help_ends_with_one(self, name: str, autosearch) -> None:
        code, out, _ = autosearch(*name.split(), "--help")
        last = [line.strip() for line in out.splitlines() if line.strip()][-1]
        assert code == 0 and last.startswith(f"autosearch {name}")

    @pytest.mark.parametrize("name", EXAMPLES)
    def test_would_be_accepted(self, name: str) -> None:
        command = commands()[name]
        for call in EXAMPLES[name]:
            assert len(call) + len(name) < 78, "one line of a terminal"
            command.make_context(name, shlex.split(call))


class TestCompletion:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("nut", "bolt"):
            folder = tmp_path / "results" / name
            folder.mkdir(parents=True)
            (folder / "spec.yaml").write_text("")
        (tmp_path / "results" / "nut" / "pareto.csv").write_text("number,rwap\n7,0.5\n12,0.6\n")
        (tmp_path / "photos").mkdir()
        (tmp_path / ".git").mkdir()
        (tmp_path / "mine.yaml").write_text("")

    def test_studies(self) -> None:
        assert list(study_folders("")) == ["results/bolt", "results/nut", "photos/"]
        assert list(study_folders("res")) == ["results/bolt", "results/nut"]
        assert list(study_folders("results/n")) == ["results/nut"]
        assert list(study_folders("results/")) == ["results/bolt", "results/nut"]
        assert list(study_folders("ph")) == ["photos/"]
        assert list(study_folders("missing/")) == []

    def test_spaces(self) -> None:
        assert "autopatch_plus" in list(space_names("autop"))
        assert list(space_names("mi")) == ["mine.yaml"]

    def test_trials_of_the_front(self) -> None:
        context = SimpleNamespace(params={"directory": Path("results/nut")}, parent=None)
        assert list(trial_numbers(context, "")) == ["7", "12"]
        assert list(trial_numbers(context, "1")) == ["12"]
        for params in ({"directory": Path("none")}, {}):
            assert list(trial_numbers(SimpleNamespace(params=params, parent=None), "")) == []

    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            ("show results/nut --trial ", ["7", "12"]),
            ("evaluate results/n", ["results/nut"]),
            ("report results/bolt results/n", ["results/nut"]),
        ],
    )
    def test_the_shell_gets_them(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        words: str,
        offered: list[str],
    ) -> None:
        monkeypatch.setenv("_AUTOSEARCH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", f"autosearch {words}")
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ") + 1))
        with pytest.raises(SystemExit):
            cli.app(prog_name="autosearch")
        assert capsys.readouterr().out.split() == offered


class TestLinks:
    @pytest.mark.parametrize(
        ("error", "page"),
        [
            (ConfigError("study.trials", 0, "more"), "docs/spec.md#study"),
            (ConfigError("space.width", 0, "more"), "docs/spec.md#space"),
            (ConfigError("dataset.validation.real_per_type", 0, ""),
             "docs/spec.md#datasetvalidation"),
            (ConfigError("dataset.validation.synthetic.kind", 0, ""),
             "docs/spec.md#datasetvalidationsynthetic"),
            (ConfigError("--set dataset.root", 0, ""), "docs/spec.md#on-the-command-line"),
            (ConfigError("tracking.mlflow", 0, ""), "docs/spec.md#tracking"),
            (ConfigError("--port", 0, ""), None),
            (DataError("x.png", "is no image", "remove it"), "docs/spec.md#layout"),
            (WeightsError("gone"), "docs/methods.md#weights"),
            (StudyError("no study here"), None),
        ],
    )  # fmt: skip
    def test_page(self, error, page: str | None) -> None:
        assert page_of(error) == page

    @pytest.mark.parametrize("page", sorted(PAGES))
    def test_pages_are_there(self, page: str) -> None:
        file, _, heading = page.partition("#")
        titles = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in titles}
        assert heading in anchors

    def test_the_line_of_an_error_ends_with_it(self, autosearch) -> None:
        code, _, err = autosearch("run", "autopatch", "--set", "sampler.name=magic")
        assert code == 2 and err.count("\n") == 1
        assert err.endswith("; see docs/spec.md#sampler\n")
