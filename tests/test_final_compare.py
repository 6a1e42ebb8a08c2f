"""Two trials on the test split: paired differences over the resamples that both met."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from final_parts import search_in
from typer.testing import CliRunner

import autosearch
from autosearch.cli.evaluate import evaluate
from autosearch.errors import StudyError
from autosearch.storage.folder import StudyFolder
from autosearch.storage.trial_files import RESAMPLES
from autosearch.study import ensemble
from autosearch.study.final import METRICS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of which all four trials are evaluated; two pairs are the same configuration."""
    folder = search_in(tmp_path_factory.mktemp("made"))
    autosearch.open_study(folder.path).evaluate([0, 1, 2, 3], resamples=200)
    return folder.path


@pytest.fixture
def study(made: Path, tmp_path: Path) -> autosearch.Study:
    return autosearch.open_study(shutil.copytree(made, tmp_path / "study"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    app = typer.Typer()
    app.command()(evaluate)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(done.exception, Exception):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return run


@pytest.fixture
def no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be fitted from here on."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("a detector was made again")

    monkeypatch.setattr(ensemble, "rebuild", refuse)


def change(study: autosearch.Study, number: int, part: str, **changed: object) -> None:
    """Change what a trial's test figures say."""
    path = study.path / "trials" / str(number) / "test.json"
    kept = json.loads(path.read_text())
    kept[part] = {**kept[part], **changed}
    path.write_text(json.dumps(kept))


def pair(study: autosearch.Study) -> tuple[int, int]:
    """Two trials of different configurations."""
    other = next(r.number for r in study.trials if r.canonical != study.trials[0].canonical)
    return other, 0


class TestCompare:
    def test_intervals_are_those_of_the_differences(self, study, no_fit) -> None:
        trial, base = pair(study)
        found = study.compare(trial, base)
        tests = study.tests
        files = [study.path / "trials" / str(n) / RESAMPLES for n in (trial, base)]
        one, other = (np.load(path, allow_pickle=False) for path in files)
        assert set(one.files) == set(METRICS) and one["rwap"].shape == (200,)
        for name in set(METRICS) - {"iou_half"}:
            values = tests[trial]["metrics"][name] - tests[base]["metrics"][name]
            assert found.metrics[name] == pytest.approx(values)
            ends = np.quantile(one[name].astype(float) - other[name], [0.025, 0.975])
            assert found.intervals[name] == pytest.approx(tuple(ends))
        assert found.metrics["iou_half"] is found.intervals["iou_half"] is None
        assert (found.resamples, found.unit) == (200, "images, within their types")

    def test_are_narrower_than_two_intervals_side_by_side(self, study) -> None:
        trial, base = pair(study)
        (low, high), tests = study.compare(trial, base).intervals["pixel_auroc"], study.tests
        ends = [tests[n]["intervals"]["pixel_auroc"] for n in (trial, base)]
        assert high - low < sum(b - a for a, b in ends) / 2

    def test_of_opposite_order_are_opposite(self, study) -> None:
        trial, base = pair(study)
        one, other = study.compare(trial, base), study.compare(base, trial)
        assert one.metrics["ap"] == -other.metrics["ap"]
        assert one.intervals["ap"] == pytest.approx(tuple(-e for e in other.intervals["ap"][::-1]))

    def test_of_equal_configurations_are_nothing(self, study) -> None:
        twins = [r for r in study.trials if r.canonical == study.trials[0].canonical]
        found = study.compare(twins[0].number, twins[1].number)
        assert found.metrics["rwap"] == 0 and found.intervals["rwap"] == (0, 0)

    def test_figures_are_stored_small(self, made: Path) -> None:
        sizes = [path.stat().st_size for path in made.glob(f"trials/*/{RESAMPLES}")]
        assert len(sizes) == 4 and max(sizes) < 20_000


class TestRefusals:
    @pytest.mark.parametrize(
        ("part", "changed", "message"),
        [
            ("data", {"sha256": "0" * 64}, "other test split than trial 0"),
            ("bootstrap", {"seed": 7}, "other seed of the resamples than trial 0"),
            ("bootstrap", {"resamples": 100}, "other number of resamples than trial 0"),
        ],
    )
    def test_of_what_both_did_not_meet(self, study, part, changed, message) -> None:
        trial, base = pair(study)
        change(study, trial, part, **changed)
        with pytest.raises(StudyError, match=message) as caught:
            study.compare(trial, base)
        assert "\n" not in str(caught.value) and "--force" in str(caught.value)

    def test_of_what_was_not_evaluated(self, study) -> None:
        trial, base = pair(study)
        shutil.rmtree(study.path / "trials" / str(base))
        with pytest.raises(StudyError, match="not evaluated"):
            study.compare(trial, base)

    def test_of_figures_of_an_earlier_version(self, study) -> None:
        trial, base = pair(study)
        (study.path / "trials" / str(base) / RESAMPLES).unlink()
        with pytest.raises(StudyError, match=f"evaluate --trial {base} --force"):
            study.compare(trial, base)

    @pytest.mark.parametrize("kind", ["text", "short", "objects", "double", "large", "cut"])
    def test_of_a_broken_file(self, study, kind: str) -> None:
        trial, base = pair(study)
        path = study.path / "trials" / str(base) / RESAMPLES
        if kind == "text":
            path.write_text("no archive")
        elif kind == "cut":
            path.write_bytes(path.read_bytes()[:4000])
        else:
            values = {
                "short": np.zeros(3, np.float32),
                "objects": np.array([{}] * 200, dtype=object),
                "double": np.zeros(200),
                "large": np.zeros(3_000_000, np.float32),
            }[kind]
            np.savez_compressed(path, rwap=values)
        with pytest.raises(StudyError, match=r"resamples\.npz: ") as caught:
            study.compare(trial, base)
        assert "\n" not in str(caught.value)


class TestCommand:
    def test_against_another(self, command, study, no_fit) -> None:
        trial, base = pair(study)
        out = command(study.path, "--trial", trial, "--against", base)
        found = study.compare(trial, base)
        low, high = found.intervals["rwap"]
        assert f"{found.metrics['rwap']:+.3f} [{low:+.3f}, {high:+.3f}]" in out
        assert "same resamples" in out

    def test_against_what_was_not_evaluated_yet(self, command, study) -> None:
        trial, base = pair(study)
        shutil.rmtree(study.path / "trials" / str(base))
        command(study.path, "--trial", trial, "--against", base, "--resamples", 200)
        assert study.compare(trial, base).resamples == 200

    def test_several_against_one(self, command, study, no_fit) -> None:
        wanted = [part for n in (1, 2, 3) for part in ("--trial", n)]
        out = command(study.path, *wanted, "--against", 0)
        assert "difference" in out and "to trial 0 [95 %]" in out

    @pytest.mark.parametrize("begun_with", [True, False])
    def test_the_fixed_choice_is_compared_with_by_itself(
        self, command, study, no_fit, begun_with: bool
    ) -> None:
        folder = StudyFolder(study.path)
        if begun_with:
            spec, first = folder.load_spec(), study.trials[0].params
            folder.write_spec(spec.model_copy(update={"start": [first]}))
        out = command(study.path, "--trial", 1, "--trial", 0)
        assert ("to trial 0 [95 %]" in out) == begun_with
        assert "rwap at 1 %" in out, "comparable where validation and test are side by side"
