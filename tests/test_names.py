"""Names that YAML takes for numbers, dates or truth values, and arguments that are no text."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dataset_parts import sound_dataset
from spec_parts import write_spec

from autosearch.api import check_data
from autosearch.data import load_search_data
from autosearch.errors import ConfigError
from autosearch.spec.reading import dataset_spec, load_spec
from autosearch.spec.sections import DatasetSpec

AWKWARD = ("01", "010", "no", "1e3", "2024-01-01", "0x1f", "12:30:00", "null", "~", "{a: 1}", "@x")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small spec on disk."""
    return write_spec(tmp_path)


class TestOverrides:
    @pytest.mark.parametrize("name", AWKWARD)
    def test_of_text_stand_as_they_are(self, path: Path, name: str) -> None:
        spec = load_spec(path, [f"dataset.category={name}"])
        assert spec.dataset.category == name
        assert dataset_spec([f"category={name}"]).category == name
        again = path.with_name("again.yaml")
        again.write_text(spec.to_yaml())
        assert load_spec(again) == spec

    def test_in_optional_text_keep_their_null(self, path: Path) -> None:
        for null in ("null", "~", ""):
            assert load_spec(path, [f"dataset.root={null}"]).dataset.root is None
        roots = {text: load_spec(path, [f"dataset.root={text}"]).dataset.root
                 for text in ("01", "'null'", "/data # 1", " /a ")}  # fmt: skip
        assert list(roots.values()) == ["01", "null", "/data # 1", "/a"]

    def test_in_quotes_are_yaml(self, path: Path) -> None:
        for text in ('"01"', "'01'"):
            assert load_spec(path, [f"dataset.category={text}"]).dataset.category == "01"
        with pytest.raises(ConfigError, match=r"--set dataset\.category.*a value in YAML"):
            load_spec(path, ['dataset.category="01'])

    def test_of_nothing_are_no_text(self, path: Path) -> None:
        with pytest.raises(ConfigError, match=r"dataset\.category: None"):
            load_spec(path, ["dataset.category="])

    def test_of_other_kinds_are_yaml_still(self, path: Path) -> None:
        spec = load_spec(path, ["study.seed=010", "space.width=01", "resources.gpu=1e-1"])
        assert spec.study.seed == 8 and spec.space["width"] == 1
        assert spec.resources.gpu == 0.1


@pytest.mark.parametrize(("text", "value"), [("01", "1"), ("no", "False"), ("2024-01-01", "date")])
def test_a_file_must_quote_them(path: Path, text: str, value: str) -> None:
    path.write_text(path.read_text() + f"dataset: {{category: {text}}}\n")
    said = rf'dataset\.category: .*{value}.* expected text; in YAML, quote .*: category: "01"'
    with pytest.raises(ConfigError, match=said):
        load_spec(path)
    path.write_text(path.read_text().replace(text, f'"{text}"'))
    assert load_spec(path).dataset.category == text


@pytest.mark.parametrize("name", ["01", "no", "1e3"])
def test_datasets_of_such_names_are_checked_and_loaded(tmp_path: Path, name: str) -> None:
    sound_dataset(tmp_path / name)
    sound_dataset(tmp_path / "8")
    small = "dataset.image_size=32"
    for report in (
        check_data(tmp_path, name, [small]),
        check_data(tmp_path, overrides={"category": name, "image_size": 32}, category="8"),
        check_data(tmp_path, "8", [f"dataset.category={name}", small]),
    ):
        assert report.usable and report.category == name
    dataset = load_spec(
        write_spec(tmp_path), [f"dataset.root={tmp_path}", f"dataset.category={name}", small]
    ).dataset
    assert isinstance(dataset, DatasetSpec)
    assert load_search_data(dataset).info["category"] == name


@pytest.mark.parametrize(
    ("settings", "category", "said"),
    [
        ({"LC_ALL": "C", "PYTHONUTF8": "0"}, "schön".encode(), "PYTHONUTF8=1 or LC_ALL=C.UTF-8"),
        ({"LC_ALL": "C.UTF-8"}, "schön".encode("latin-1"), "expected text in UTF-8"),
    ],
)
@pytest.mark.parametrize("positional", [True, False])
def test_arguments_that_are_no_text_say_why(
    tmp_path: Path, settings: dict[str, str], category: bytes, said: str, positional: bool
) -> None:
    sound_dataset(tmp_path / "part")
    given = [category] if positional else [b"part", b"--set", b"dataset.category=" + category]
    command = [
        Path(sys.executable).with_name("autosearch"),
        "data",
        "check",
        str(tmp_path),
        *given,
    ]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr.decode() and done.stderr.count(b"\n") == 1
