"""Studies whose images changed or lie elsewhere: what is said, and what goes on."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import autosearch
from autosearch import cli
from autosearch.data import load_search_data
from autosearch.errors import ConfigError, StudyError
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import DatasetSpec
from autosearch.storage.data_files import changes, files_of, read_files, write_files
from autosearch.study import inputs

TINY = {
    "space": {"level3.patch_size": [1, 3]},
    "objectives": ["gflops", "rwap"],
    "study": {"runner": "patchcore"},
    "backbone": {"weights": "random"},
    "resources": {"gpu": 0},
}


def draw(path: Path, seed: int, defect: bool = False) -> None:
    """A picture of noise, and the mask of its defect."""
    noise = np.random.default_rng(seed).integers(90, 150, (64, 64, 3), np.uint8)
    if defect:
        noise[20:40, 20:40] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)


def write_dataset(root: Path) -> None:
    for number in range(8):
        draw(root / f"part/train/good/{number}.png", number)
    for number in range(4):
        draw(root / f"part/test/good/{number}.png", 10 + number)
        draw(root / f"part/test/hole/{number}.png", 20 + number, defect=True)
        mask = np.zeros((64, 64), np.uint8)
        mask[20:40, 20:40] = 255
        path = root / f"part/ground_truth/hole/{number}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset and the study of two trials that was made on it."""
    server = tmp_path_factory.mktemp("server")
    write_dataset(server / "images")
    dataset = {"root": str(server / "images"), "category": "part", "image_size": 64}
    dataset["validation"] = {"normal": "as_test"}
    spec = {**TINY, "dataset": dataset}
    autosearch.search(spec, trials=2, name="s", results=server, executor="local")
    return server


@pytest.fixture
def laptop(searched: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the study and of the images elsewhere; where they were there is nothing."""
    study = Path(shutil.copytree(searched / "s", tmp_path / "copied"))
    images = Path(shutil.copytree(searched / "images", tmp_path / "pictures"))
    text = (study / "spec.yaml").read_text()
    (study / "spec.yaml").write_text(text.replace(str(searched / "images"), "/gone/images"))
    return study, images


class TestFiles:
    LINES = ("train\0a.png\x001\0", "train\0b.png\x002\0", "val\0c.png\x003\x004")

    def changed(self, *lines: str) -> str:
        return changes(files_of(self.LINES), files_of(lines))

    def test_that_are_the_same_are_no_change(self) -> None:
        assert self.changed(*self.LINES) == ""

    def test_are_named_by_what_became_of_them(self) -> None:
        a, b, c = self.LINES
        assert self.changed(a, b, c, "val\0d.png\x009\0") == "1 added (d.png)"
        assert self.changed(a, c) == "1 removed (b.png)"
        assert self.changed(a, b, "val\0c.png\x003\x005") == "1 changed (c.png)"
        assert self.changed(a, b.replace("b.", "e."), c) == "1 renamed (b.png to e.png)"
        moved = "1 moved from training to validation (b.png)"
        assert self.changed(a, b.replace("train", "val"), c) == moved
        both = self.changed(b.replace("b.", "e.").replace("2", "7"), c)
        assert both == "1 added (e.png), 2 removed (a.png, b.png)"

    def test_are_named_as_far_as_three_of_a_kind(self) -> None:
        many = [f"train\0{n}.png\x00{n}\0" for n in range(5)]
        found = self.changed(*self.LINES, *many)
        assert found == "5 added (0.png, 1.png, 2.png, and 2 more)"

    def test_are_kept_and_read(self, tmp_path: Path) -> None:
        path, files = tmp_path / "data.json", files_of([*self.LINES, "val\0\udcff.png\x001\0"])
        write_files(path, "sha", files)
        assert read_files(path, "sha") == files and read_files(path, "other") is None
        for damage in ("", "[]", '{"sha256": "sha", "files": 3}', '{"sha256'):
            path.write_text(damage)
            assert read_files(path, "sha") is None

    def test_are_what_the_hash_is_over(self, searched: Path) -> None:
        keys = {"root": str(searched / "images"), "category": "part", "image_size": 64}
        spec = DatasetSpec.model_validate({**keys, "validation": {"normal": "as_test"}})
        files = files_of(load_search_data(spec).files)
        assert {split: len(names) for split, names in files.items()} == {"train": 4, "val": 5}
        kept = json.loads((searched / "s" / "data.json").read_text())
        assert kept["files"] == files and "part/train/good/7.png" in files["train"]


def commands(study: Path) -> list[list[str]]:
    folder = str(study)
    return [
        ["resume", folder, "--trials", "3", "--executor", "local"],
        ["evaluate", folder, "--front"],
        ["export", folder, "--trial", "0"],
        ["repeat", folder],
    ]


@pytest.mark.parametrize("number", range(4), ids=["resume", "evaluate", "export", "repeat"])
class TestOtherImages:
    def test_are_named(
        self, refused: Callable[..., str], laptop: tuple[Path, Path], number: int
    ) -> None:
        study, images = laptop
        draw(images / "part/train/good/9.png", 99)
        draw(images / "part/train/good/1.png", 98)
        said = refused(study, *commands(study)[number], "--data", images)
        assert "1 added (part/train/good/9.png), 1 changed (part/train/good/1.png)" in said
        assert "--data" in said and "--name" in said

    def test_are_counted_for_a_study_that_kept_no_names(
        self, refused: Callable[..., str], laptop: tuple[Path, Path], number: int
    ) -> None:
        study, images = laptop
        (study / "data.json").unlink()
        draw(images / "part/train/good/9.png", 99)
        said = refused(study, *commands(study)[number], "--data", images)
        assert "train has 5 good, 4 then (which files is not known" in said
        (images / "part/train/good/9.png").unlink()
        draw(images / "part/train/good/1.png", 98)
        said = refused(study, *commands(study)[number], "--data", images)
        assert "as many images of every type as then (which files is not known" in said


class TestElsewhere:
    def test_a_study_is_read_without_its_images(
        self,
        laptop: tuple[Path, Path],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        study, images = laptop
        autosearch.open_study(study).export(0, formats=("onnx",), data=images)
        photo = shutil.copy(images / "part/test/hole/3.png", study.parent / "photo.png")
        shutil.rmtree(images)
        model, out = study / "exports/trial-0", study.parent / "seen"
        for command in (
            ["show", study], ["show", study, "--trial", "0"], ["report", study],
            ["recommend", study], ["predict", model, photo, "--out", out],
        ):  # fmt: skip
            monkeypatch.setattr(sys, "argv", ["autosearch", *map(str, command)])
            with pytest.raises(SystemExit) as caught:
                cli.main()
            assert not caught.value.code, capsys.readouterr()
        assert (study / "report.html").is_file() and any(out.iterdir())

    def test_it_is_evaluated_exported_and_repeated(self, laptop: tuple[Path, Path]) -> None:
        study, images = autosearch.open_study(laptop[0]), laptop[1]
        spec = (study.path / "spec.yaml").read_bytes()
        figures = study.evaluate([0], data=images, resamples=100)[0]
        assert figures["validation"]["reproduced"]
        assert study.export(0, data=images, formats=("torch",)).is_dir()
        assert study.repeat([0], 2, data=images)[0]["rwap"].runs == 2
        assert (study.path / "spec.yaml").read_bytes() == spec, "only a search that goes on moves"

    def test_it_goes_on_from_where_the_images_are(
        self, laptop: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        study, images = autosearch.open_study(laptop[0]), laptop[1]
        before = study.trials
        monkeypatch.chdir(images.parent)
        study.resume(trials=3, executor="local", data=images.name)
        assert study.trials[:2] == before and len(study.trials) == 3
        assert study.spec.dataset.root == str(images)
        study.resume(trials=4, executor="local")
        assert len(study.trials) == 4

    def test_its_root_stays_where_the_images_are_others(self, laptop: tuple[Path, Path]) -> None:
        study, images = autosearch.open_study(laptop[0]), laptop[1]
        (images / "part/train/good/1.png").unlink()
        with pytest.raises(StudyError, match=r"1 removed \(part/train/good/1.png\)"):
            study.resume(trials=3, executor="local", data=images)
        assert study.spec.dataset.root == "/gone/images"

    def test_without_saying_where_the_missing_folder_is_named(
        self, refused: Callable[..., str], laptop: tuple[Path, Path]
    ) -> None:
        for command in commands(laptop[0]):
            assert "/gone/images" in refused(laptop[0], *command)

    def test_a_category_needs_a_place(self, laptop: tuple[Path, Path]) -> None:
        study = autosearch.open_study(laptop[0])
        with pytest.raises(ConfigError, match="--data beside it"):
            study.evaluate([0], category="other")
        with pytest.raises(ConfigError, match="a folder or a CSV file that is there"):
            study.evaluate([0], data=laptop[0] / "nothing")

    def test_a_table_may_have_another_name(self, laptop: tuple[Path, Path]) -> None:
        """Without a column of categories its name is the category."""
        images = laptop[1]
        rows = ["path,mask,label,type,split"]
        rows += [f"part/train/good/{n}.png,,0,good,train" for n in range(4)]
        rows += [f"part/test/good/{n}.png,,0,good,val" for n in range(4)]
        rows += [
            f"part/test/hole/{n}.png,part/ground_truth/hole/{n}_mask.png,1,hole,val"
            for n in range(4)
        ]
        table = images / "first.csv"
        table.write_text("\n".join(rows) + "\n")
        dataset = {"root": str(table), "category": "first", "image_size": 64}
        spec = {**TINY, "dataset": dataset}
        study = autosearch.search(spec, trials=1, name="t", results=images, executor="local")
        other = Path(shutil.move(table, images / "second.csv"))
        study.resume(trials=2, executor="local", data=other, category="second")
        assert study.spec.dataset.category == "second" and len(study.trials) == 2


def test_what_a_searched_backbone_is_need_not_be_looked_up_again(tmp_path: Path) -> None:
    """A copied study has it in its spec, and the study that found it may lie elsewhere."""
    found = {"runner": "autopatch", "params": {"width": 1.0}, "hashes": {}, "weights": "auto"}
    gone = {"study": str(tmp_path / "gone"), "trial": 1}
    known = {**gone, "architecture": found | {"seed": 0}}
    spec = parse_spec({**TINY, "study": {"name": "g", "runner": "glass"}, "backbone": known})
    assert inputs._with_architecture(spec) == spec
    unknown = parse_spec({**TINY, "study": {"name": "g", "runner": "glass"}, "backbone": gone})
    with pytest.raises(StudyError, match="gone: no study here"):
        inputs._with_architecture(unknown)
