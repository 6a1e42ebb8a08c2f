"""From a folder of images to a spec that can be run."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autosearch import cli
from autosearch.api import build_spec, draft, propose
from autosearch.api.draft import pace_text, time_text
from autosearch.contracts import registry
from autosearch.data import advise
from autosearch.errors import ConfigError, DataError
from autosearch.spec import (
    DatasetSpec,
    OwnShape,
    comment_lines,
    load_spec,
    yaml_line,
    yaml_sections,
)
from autosearch.study import Pace
from autosearch.study.pace import at_a_time

SIDE = 96


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(90, 160, (height, width, 3), dtype=np.uint8)


def make(
    root: Path,
    normal: int = 12,
    defects: dict[str, int] | None = None,
    masks: bool = True,
    size: tuple[int, int] = (SIDE, SIDE),
    side: int = 12,
) -> Path:
    """A category in MVTec AD's layout: noise, and white squares as defects."""
    rng = np.random.default_rng(0)
    for i in range(normal):
        write(root / "train" / "good" / f"{i:03}.png", texture(rng, *size))
    for i in range(4):
        write(root / "test" / "good" / f"{i:03}.png", texture(rng, *size))
    for kind, number in (defects or {}).items():
        for i in range(number):
            image, mask = texture(rng, *size), np.zeros(size, dtype=np.uint8)
            image[8 : 8 + side, 8 : 8 + side] = 255
            mask[8 : 8 + side, 8 : 8 + side] = 255
            write(root / "test" / kind / f"{i:03}.png", image)
            if masks:
                write(root / "ground_truth" / kind / f"{i:03}_mask.png", mask)
    return root


def chosen(root: Path, side: int = 320) -> dict[str, object]:
    found = advise(DatasetSpec(root=str(root), category=root.name), side)
    assert found.report.usable
    return {choice.key: choice.value for choice in found.choices}


class TestAdvice:
    @pytest.mark.parametrize(
        ("defects", "real", "synthetic"),
        [
            ({}, 0, {"kind": "both"}),
            ({"hole": 2}, 1, {"kind": "both"}),
            ({"hole": 6, "dent": 7}, 2, "auto"),
            ({"hole": 9, "dent": 40}, 3, "auto"),
            ({"hole": 15, "dent": 40}, 5, None),
            ({"hole": 30}, 5, None),
        ],
    )
    def test_defects(
        self, tmp_path: Path, defects: dict[str, int], real: int, synthetic: object
    ) -> None:
        found = chosen(make(tmp_path / "nut", defects=defects))
        assert found["validation.real_per_type"] == real
        assert found["validation.synthetic"] == synthetic

    @pytest.mark.parametrize(("number", "synthetic"), [(6, "auto"), (9, "auto"), (15, None)])
    def test_without_masks_a_third_validates(
        self, tmp_path: Path, number: int, synthetic: object
    ) -> None:
        root = make(tmp_path / "nut", defects={"hole": number}, masks=False)
        found = advise(DatasetSpec(root=str(root), category="nut"), 320)
        values = {choice.key: choice.value for choice in found.choices}
        assert not found.pixels
        assert values["validation.real_per_type"] == "auto"
        assert values["validation.synthetic"] == synthetic
        assert found.report.counts["val"]["hole"] == number // 3

    @pytest.mark.parametrize(
        ("size", "most", "side"),
        [
            ((400, 300), 320, 320),  # As large as is worth trying.
            ((310, 290), 320, 320),  # A little less is filled up.
            ((250, 250), 320, 256),  # No more than the files hold,
            ((128, 128), 320, 224),  # but not too coarse,
            ((64, 64), 320, 128),  # and no more than twice as large.
        ],
    )
    def test_size(self, tmp_path: Path, size: tuple[int, int], most: int, side: int) -> None:
        found = chosen(make(tmp_path / "nut", 4, {"hole": 3}, size=size, side=40), most)
        assert found["image_size"] == {"side": side}
        assert "tiling" not in found

    def test_tiles_where_defects_would_be_lost(self, tmp_path: Path) -> None:
        root = make(tmp_path / "sheet", 4, {"hole": 3}, size=(320, 320), side=5)
        found = chosen(root, 64)
        # 5 px of 320 are one of 64, and six of as many pixels again as fit the file.
        assert found["tiling"] == {"size": 64}
        assert found["image_size"] == {"side": 320}

    def test_tiles_are_no_more_than_it_takes(self, tmp_path: Path) -> None:
        root = make(tmp_path / "sheet", 4, {"hole": 3}, size=(320, 320), side=15)
        # 15 px of 320 are three of 64; six are there at 128.
        assert chosen(root, 64)["image_size"] == {"side": 128}

    def test_objects_that_lie_differently_are_aligned(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(1)
        root = tmp_path / "bolt"
        for part, number in (("train/good", 10), ("test/good", 3)):
            for i in range(number):
                image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
                top, left = rng.integers(8, 50, 2)
                image[top : top + 32, left : left + 16] = 200
                image[top : top + 10, left : left + 16] = 90
                turned = Image.fromarray(image).rotate(float(rng.uniform(0, 360)))
                write(root / part / f"{i:03}.png", np.asarray(turned))
        found = advise(DatasetSpec(root=str(root), category="bolt"), 128)
        assert found.dataset.preprocess == "align"
        assert found.report.alignment is not None
        assert found.report.alignment.shares[0] <= 0.6

    def test_what_is_given_for_labelled_defects_stays(self, tmp_path: Path) -> None:
        root = make(tmp_path / "nut", defects={"hole": 8})
        given = {"labelled": {"train": 0.5, "val": 0.25}}
        spec = DatasetSpec.model_validate({"root": str(root), "category": "nut", **given})
        found = advise(spec, 96)
        assert [choice.key for choice in found.choices] == ["image_size"]
        assert found.report.counts["train"]["hole"] == 4


class TestText:
    def test_comment_lines_are_wrapped(self) -> None:
        lines = list(comment_lines("word " * 50, 4))
        assert len(lines) > 2 and all(line.startswith("    # word") for line in lines)
        assert max(map(len, lines)) <= 99

    @pytest.mark.parametrize(
        "value",
        ["screw", "01", "no", "1e3", "a: b", "# c", "10m", "/a/b c", "münze", None, True,
         0.5, ["a", "01"], {"side": 320}, {"kind": "both"}, "", " x", "~", "a'b\"c"],
    )  # fmt: skip
    def test_values_come_back(self, tmp_path: Path, value: object) -> None:
        import yaml

        assert yaml.safe_load(yaml_line("key", value)) == {"key": value}

    def test_common_values_have_no_quotes(self) -> None:
        assert yaml_line("timeout", "10m", 2) == "  timeout: 10m"
        assert yaml_line("root", "/data/mvtec") == "root: /data/mvtec"

    def test_sections_keep_their_comments(self) -> None:
        text = "# file\na: 1\n# of b\nb:\n  # in b\n  c: 2\n\n# of d\nd: 3\n# end\n"
        assert yaml_sections(text, ["b"]) == "# of b\nb:\n  # in b\n  c: 2\n"
        assert yaml_sections(text, ["a", "d"]) == "a: 1\n\n# of d\nd: 3\n"

    @pytest.mark.parametrize("name", registry.spaces())
    def test_the_rest_is_the_space(self, name: str, tmp_path: Path) -> None:
        path = registry.spaces()[name]
        its = load_spec(path)
        names = its.model_fields_set - {"study", "objectives", "dataset"}
        head = f"study: {{runner: {its.study.runner}}}\nobjectives: [gflops]\n"
        (tmp_path / "new.yaml").write_text(head + yaml_sections(path.read_text(), names))
        new = load_spec(tmp_path / "new.yaml")
        assert all(getattr(new, one) == getattr(its, one) for one in names)

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0.2, "1 s"), (47, "50 s"), (119, "100 s"), (600, "10 min")]
    )
    def test_times(self, seconds: float, text: str) -> None:
        assert time_text(seconds) == text

    @pytest.mark.parametrize(("number", "kept"), [(7, 7), (99, 99), (157, 150), (1234, 1200)])
    def test_trials_are_rounded_down(self, number: int, kept: int) -> None:
        assert draft._rounded(number) == kept


class TestPace:
    def test_what_fits(self) -> None:
        pace = Pace((2.0, 4.0), 2)
        assert pace.fitting(615) == 400  # 15 s until workers run, then 2 in 3 s
        assert pace.total(400) == 615
        assert Pace((3.0,), 1).fitting(600) == 200
        assert Pace((30.0,), 1).fitting(1) == 1

    def test_nothing_is_known_of_trials_that_failed(self) -> None:
        pace = Pace((), 2, "too large")
        assert pace.fitting(600) is None and pace.total(5) is None
        assert "too large" in pace_text(pace, 100)

    def test_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.cpu_count", lambda: 8)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
        spec = load_spec(registry.spaces()["autopatch"])
        its = spec.resources
        assert at_a_time(its) == 8
        assert at_a_time(its.model_copy(update={"cpu": 3})) == 2
        assert at_a_time(its.model_copy(update={"max_concurrent": 4})) == 4
        monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
        assert at_a_time(its) == 4  # A quarter of the GPU each.


@pytest.fixture
def init(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> object:
    """Run `autosearch init` in an empty folder; gives exit code and both outputs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autosearch", "init", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return run


class TestCommand:
    def test_writes_a_spec_that_can_be_run(self, init, tmp_path: Path) -> None:
        root = make(tmp_path / "nut", defects={"hole": 9})
        code, out, _ = init(root, "--no-try", "--budget", "5m")
        assert code == 0 and "autosearch run nut.yaml" in out and "nut in " in out
        spec = build_spec("nut.yaml", ())
        assert spec.study.name == "nut" and spec.study.timeout == 300
        assert spec.dataset.root == str(root) and spec.dataset.categories == ("nut",)
        assert spec.dataset.image_size == OwnShape(side=192)
        assert spec.objectives == ["total_gflops", "rwap"]
        text = Path("nut.yaml").read_text()
        assert "Of 9 anomalous images (9 hole)" in text
        assert "val 3 good + 3 hole, test 4 good + 6 hole" in re.sub(r"\n +# ", " ", text)

    def test_without_masks_images_are_ranked(self, init, tmp_path: Path) -> None:
        root = make(tmp_path / "nut", defects={"hole": 3}, masks=False)
        _, out, _ = init(root, "--no-try", "--out", "my nut.yaml")
        assert "autosearch run 'my nut.yaml'" in out
        assert build_spec("my nut.yaml", ()).objectives == ["total_gflops", "image_auroc"]

    def test_no_file_is_replaced_unasked(self, init, tmp_path: Path) -> None:
        root = make(tmp_path / "nut", 4)
        Path("nut.yaml").write_text("mine")
        code, _, err = init(root, "--no-try")
        assert code == 2 and "--force" in err and Path("nut.yaml").read_text() == "mine"
        assert init(root, "--no-try", "--force")[0] == 0
        assert Path("nut.yaml").read_text() != "mine"

    def test_a_pipe_is_never_asked(self, init, tmp_path: Path) -> None:
        assert "FOLDER" in init()[2]
        for name in ("nut", "bolt"):
            make(tmp_path / "all" / name, 3)
        code, _, err = init(tmp_path / "all", "--no-try")
        assert code == 2 and "one of bolt, nut" in err

    def test_a_terminal_is_asked(
        self, init, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("nut", "bolt"):
            make(tmp_path / "all" / name, 4)
        answers = iter([str(tmp_path / "all"), "bolt", "2h", "mine.yaml"])
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
        assert init("--no-try")[0] == 0
        spec = load_spec(Path("mine.yaml"))
        assert spec.study.timeout == 7200 and spec.dataset.categories == ("bolt",)

    def test_what_is_wrong_is_told_and_nothing_written(self, init, tmp_path: Path) -> None:
        root = make(tmp_path / "nut", 4)
        (root / "train" / "good" / "000.png").write_bytes(b"no image")
        code, out, err = init(root, "--no-try")
        assert code == 2 and "000.png" in out and "no search" in err
        assert not Path("nut.yaml").exists()


class TestPropose:
    def test_trials_fit_the_budget(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("autosearch.api.proposal._pace", lambda *_: Pace((2.0,), 1))
        root = make(tmp_path / "nut", 4)
        found = propose(root, budget="5m")
        assert found.spec.study.trials == 150
        assert "150 take about 5 min" in found.text and "150 take about 5 min" in found.time

    def test_trials_are_tried(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("autosearch.study.pace._TRIED", 1)
        root = make(tmp_path / "nut", 6, {"hole": 3}, size=(32, 32), side=8)
        told: list[str] = []
        found = propose(root, space="backbones", progress=lambda u: told.append(u.stage))
        assert found.pace is not None and all(0 < s < 60 for s in found.pace.seconds)
        assert len(found.pace.seconds) == told.count("trying") == 1
        assert found.spec.study.runner == "patchcore"

    def test_several_categories(self, tmp_path: Path) -> None:
        for name in ("nut", "bolt"):
            make(tmp_path / "all" / name, 3)
        found = propose(tmp_path / "all", "[nut, bolt]", measured=False)
        assert found.spec.dataset.categories == ("nut", "bolt")

    def test_what_a_space_needs_of_a_dataset_is_kept(self, tmp_path: Path) -> None:
        root = make(tmp_path / "nut", 6, {"hole": 8})
        found = propose(root, space="bilevel_weights", measured=False)
        assert found.spec.dataset.labelled is not None
        assert found.spec.dataset.validation == DatasetSpec().validation

    @pytest.mark.parametrize(
        ("given", "key"), [({"space": "autopach"}, "--space"), ({"budget": "soon"}, "--budget")]
    )
    def test_refusals(self, tmp_path: Path, given: dict[str, str], key: str) -> None:
        with pytest.raises(ConfigError, match=key):
            propose(tmp_path, **given)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError):
            propose(tmp_path / "missing")
