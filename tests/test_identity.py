"""What may change in a study's spec, and what is refused: every key is one or the other."""

import json
import shutil
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import autosearch
from autosearch.contracts.registry import find_space
from autosearch.errors import ConfigError, StudyError
from autosearch.spec.identity import MAY_CHANGE, differences, leaves, may_change
from autosearch.spec.reading import load_spec
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.storage.identity import begun_with, not_kept
from autosearch.storage.optuna_study import open_study
from autosearch.study.driver import StudyDriver

DIRECTIONS = {"gflops": "minimize", "rwap": "maximize"}
KEYS = leaves(StudySpec)
FIXED = [key for key in KEYS if not may_change(key)]

# What stands in for another value where none of a plain kind will do.
OTHERS: dict[str, Any] = {
    "study.runner": "patchcore",
    "space": {"width": [1.2]},
    "objectives": ["rwap", "gflops"],
    "constraints": ["gflops <= 0.25"],
    "dataset.validation.synthetic": {"kind": "cutpaste"},
    "dataset.labelled": {"train": 0.5},
    "dataset.tiling": {"size": 64},
}
APART = {
    "backbone.architecture",  # Is looked up; see below.
    "backbone.supernet",  # There is one alone.
}
PLAIN = [0.5, 0, 1, 2, 3, 96, True, False, "x", "mask", None, [96, 128], [1, 2, 3, 4]]


def asked(*overrides: object) -> StudySpec:
    plain = ["start=[]", "dataset.image_size=224"]
    return load_spec(find_space("autopatch_fixed"), [*plain, *overrides])  # type: ignore


def options(kind: Any) -> list[Any]:
    """Values that a type names itself."""
    own = list(typing.get_args(kind)) if typing.get_origin(kind) is typing.Literal else []
    return own + [value for part in typing.get_args(kind) for value in options(part)]


def another(key: str) -> StudySpec:
    """A spec in which one key alone has another value."""
    plain = asked()
    tried = [OTHERS[key]] if key in OTHERS else [*options(KEYS[key].annotation), *PLAIN]
    for value in tried:
        try:
            spec = asked((key, value))
        except (ConfigError, AttributeError, TypeError):
            continue
        if key in {name for name, *_ in differences(StudySpec, plain.identity(), spec.identity())}:
            return spec
    raise AssertionError(f"no other value found for {key}; name one in OTHERS")


def begun(path: Path, spec: StudySpec) -> StudyDriver:
    folder = StudyFolder(path)
    driver = StudyDriver(folder, spec, DIRECTIONS, dict, {"data": "d"})
    folder.write_spec(spec)
    return driver


def test_every_key_of_a_spec_is_fixed_or_may_change() -> None:
    identity = asked().identity()
    for key in KEYS:
        assert (key in identity) != may_change(key), key
    assert set(identity) == set(FIXED)
    for name, why in MAY_CHANGE.items():
        assert why and any(key == name or key.startswith(f"{name}.") for key in KEYS), name


def test_all_of_a_dataset_is_fixed_but_where_it_lies_and_how_its_files_are_found() -> None:
    free = {key for key in KEYS if key.startswith("dataset.") and may_change(key)}
    assert free == {"dataset.name", "dataset.root", "dataset.category", "dataset.layout"}


@pytest.mark.parametrize("key", [key for key in FIXED if key not in APART])
def test_another_value_of_a_fixed_key_is_refused(key: str, tmp_path: Path) -> None:
    spec, other = asked(), another(key)
    begun(tmp_path, spec).close()
    with pytest.raises(StudyError, match=f"another {key}: ") as caught:
        begun(tmp_path, other)
    assert " then, " in str(caught.value) and " now; set it back, or " in str(caught.value)
    assert "--name" in str(caught.value)
    # Edited into the stored spec it is found by all who read trials.
    (tmp_path / "spec.yaml").write_text(other.to_yaml())
    with pytest.raises(StudyError, match=f"spec.yaml: is not the spec .* another {key}: "):
        StudyFolder(tmp_path).trials.records()
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    begun(tmp_path, spec).close()


@pytest.mark.parametrize(
    "override",
    [
        "study.trials=7", "study.timeout=1h", "study.retries=0", "measures=[ap]",
        "sampler.name=random", "pruner.name=none", "resources.cpu=2", "memory.backend=torch",
        "dataset.root=/elsewhere", "dataset.name=other", "backbone.weights=random",
        "start=[{stage0.extraction_block: null}]",
    ],
)  # fmt: skip
def test_what_may_change_is_accepted(override: str, tmp_path: Path) -> None:
    begun(tmp_path, asked()).close()
    begun(tmp_path, asked(override)).close()
    assert StudyFolder(tmp_path).trials.records() == []


def test_a_searched_architecture_is_fixed_wherever_it_was_found(tmp_path: Path) -> None:
    found = {"runner": "autopatch", "params": {"width": 1.0}, "hashes": {}, "weights": "auto"}
    searched = {"study": "/a", "trial": 1, "architecture": found | {"seed": 0}}
    begun(tmp_path, asked(("backbone", searched))).close()
    begun(tmp_path, asked(("backbone", searched | {"study": "/b"}))).close()
    wider = found | {"params": {"width": 1.2}, "seed": 0}
    with pytest.raises(StudyError, match=r"another backbone.architecture: .*1\.0.* then, .*1\.2"):
        begun(tmp_path, asked(("backbone", searched | {"architecture": wider})))


def test_a_key_that_is_younger_than_a_study_has_its_former_value() -> None:
    spec = asked("dataset.fit=stretch", "dataset.validation.synthetic={kind: perlin}")
    kept = spec.identity()
    del kept["dataset.fit"], kept["dataset.preprocess"]
    del kept["dataset.validation.synthetic"]["textures"]
    then = begun_with({"spec": kept}, {}, {"dataset.fit": "stretch"})
    assert list(differences(StudySpec, then, spec.identity())) == []
    other = asked("dataset.fit=letterbox", "dataset.validation.synthetic={kind: perlin}")
    (found,) = differences(StudySpec, then, other.identity())
    assert found == ("dataset.fit", "stretch", "letterbox")


class TestEarlierVersions:
    """Their guards have runner, objectives, constraints, space and backbone, and hashes."""

    GUARD: typing.ClassVar[dict[str, Any]] = {
        "runner": "autopatch",
        "objectives": ["gflops", "rwap"],
        "constraints": [],
        "backbone": {"supernet": "ofa_mobilenetv3", "count_kernel_transform": False},
        "data": "d",
    }
    META: typing.ClassVar[dict[str, Any]] = {
        "seed": 0,
        "data": {"name": "demo", "category": "brick", "counts": {}, "sha256": "d", "rule": "",
                 "image_size": 224, "resize_rule": "", "mask_rule": "nearest: pixels"},
    }  # fmt: skip

    @pytest.fixture
    def old(self, tmp_path: Path) -> Callable[[], StudyFolder]:
        folder, spec = StudyFolder(tmp_path), asked()
        guard = self.GUARD | {"space": spec.parsed_space.to_plain()}
        open_study(folder.trials.storage(), DIRECTIONS, guard)
        folder.write_spec(spec)
        folder.write_meta(self.META)
        return lambda: StudyFolder(tmp_path)

    @pytest.mark.parametrize(
        "override",
        ["dataset.image_size=96", "dataset.mask_rule=any", "study.seed=1", "study.repeats=2",
         "backbone.count_kernel_transform=true"],
    )  # fmt: skip
    def test_refuse_what_they_kept_there_or_in_their_meta_data(self, old, override: str) -> None:
        key = override.partition("=")[0]
        with pytest.raises(StudyError, match=f"another {key}: "):
            begun(old().path, asked(override))

    def test_say_what_is_not_compared_and_keep_all_from_then_on(
        self, old, caplog: pytest.LogCaptureFixture
    ) -> None:
        begun(old().path, asked()).close()
        (line,) = [r.getMessage() for r in caplog.records if "earlier version" in r.getMessage()]
        assert "dataset.labelled" in line and "dataset.image_size" not in line
        caplog.clear()
        with pytest.raises(StudyError, match=r"another dataset\.labelled: None then"):
            begun(old().path, asked("dataset.labelled={train: 0.5}"))
        begun(old().path, asked()).close()
        assert not caplog.records

    def test_of_nothing_nothing_is_compared(self) -> None:
        assert begun_with({}, self.META, {}) == {}
        assert not_kept({}, asked()) == list(asked().identity())


def test_an_image_size_that_was_edited_is_refused_before_an_image_is_read(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    tiny = {"dataset.image_size": 64, "backbone.weights": "random", "dataset.seed": 0}
    study = autosearch.search(
        "autopatch_fixed", tiny, trials=1, executor="local", results=tmp_path, name="s"
    )
    before = study.trials
    text = study.path / "spec.yaml"
    spec = yaml.safe_load(text.read_text())
    spec["dataset"] |= {"image_size": 96, "root": "/nowhere"}
    text.write_text(yaml.safe_dump(spec))
    resumed = ("resume", study.path, "--trials", "2", "--executor", "local")
    said = refused(study.path, *resumed)
    assert "another dataset.image_size: 64 then, 96 now; set it back" in said and "--name" in said
    for command in ("show", "report", "evaluate --front", "export --trial 0"):
        name, *rest = command.split()
        said = refused(study.path, name, study.path, *rest)
        assert "dataset.image_size: 64 then, 96 now" in said
    spec["dataset"] |= {"image_size": 64, "root": None}
    text.write_text(yaml.safe_dump(spec))
    assert autosearch.open_study(study.path).trials == before
    assert json.loads((study.path / "meta.json").read_text())["data"]["sha256"]
    shutil.rmtree(study.path)
