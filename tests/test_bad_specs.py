"""Specs that nobody should write, each refused with one line that names the key or the file."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from damage import Refused
from hypothesis import HealthCheck, example, given, settings, strategies as st

from autosearch.errors import ConfigError, one_line

GOOD = """\
study: {name: good, runner: autopatch}
space: {width: [1.0, 1.2], stage0.patch_size: {int: [1, 4]}}
objectives: [gflops, rwap]
"""
QUICK = ["--executor", "local", "--set", "backbone.weights=random"]


@pytest.fixture
def refusal(refused: Refused, tmp_path: Path) -> Refused:
    """The line with which a spec of the given content is refused; no folder is made for it."""

    def run(content: str | bytes, *overrides: str) -> str:
        path = tmp_path / "bad.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        given = [part for override in overrides for part in ("--set", override)]
        line = refused(tmp_path, "run", path, *QUICK, *given, "--results", tmp_path / "results")
        assert not (tmp_path / "results").exists()
        return line

    return run


def digits(number: int) -> str:
    """A whole number that Python reads at once, and refuses to write in decimals."""
    return "0x" + "f" * number


HUGE = digits(9000)
FILES: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "bad.yaml: None"),
    "a number": ("3", "bad.yaml: 3"),
    "a list": ("[study]", "bad.yaml: ['study']"),
    "text": ("spec", "bad.yaml: 'spec'"),
    "UTF-16": (GOOD.encode("utf-16"), "valid YAML in UTF-8"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), "valid YAML in UTF-8"),
    "UTF-32": (GOOD.encode("utf-32"), "valid YAML in UTF-8"),
    "Latin-1": ("study: {name: größe}".encode("latin-1"), "valid YAML in UTF-8"),
    "a surrogate": (b"study: \xed\xa0\x80", "valid YAML in UTF-8"),
    "a null byte": (GOOD + "measures: [\0]", "valid YAML in UTF-8"),
    "a control character": (GOOD + "measures: [\x07]", "valid YAML in UTF-8"),
    "an escape sequence": (GOOD + '"\\e[2J": 1', "\\x1b[2J: 1 is not"),
    "a byte order mark": ("\ufeff" + GOOD + "zz: 1", "zz: 1 is not allowed"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(40), "valid YAML in UTF-8"),
    "tabs": ("study:\n\tname: a", "bad.yaml:2"),
    "a key twice": (GOOD + "study: {}\n", "'study' stands twice"),
    "a key twice further in": ("study: {name: a, name: b}", "'name' stands twice"),
    "an open bracket": ("study: [1", "bad.yaml:1"),
    "two documents": (GOOD + "---\n" + GOOD, "bad.yaml:4"),
    "another YAML": ("%YAML 9.9\n---\n" + GOOD, "bad.yaml:1"),
    "a bomb of aliases": ("a: &a [x,x]\nb: &b [*a,*a]\nspace: *b", "aliases"),
    "an alias of itself": ("a: &a [*a]", "aliases"),
    "a merge by alias": ("a: &x {b: 1}\nstudy: {<<: *x}", "aliases"),
    "a merge of nothing": ("study: {<<: 3}", "bad.yaml:1"),
    "deep nesting": ("a: " + "[" * 5000 + "]" * 5000, "RecursionError"),
    "nesting that is read": (f"study: {{name: {'[' * 60 + ']' * 60}}}", "study.name: [[["),
    "a call": ("study: !!python/object/apply:os.abort []", "python/object/apply:os.abort"),
    "an object": ("study: !!python/object:os.Abort {}", "python/object:os.Abort"),
    "a new object": ("study: !!python/object/new:os.abort []", "python/object/new:os.abort"),
    "a name": ("study: !!python/name:os.abort", "python/name:os.abort"),
    "a module": ("study: !!python/module:os", "python/module:os"),
    "a tuple": ("space: {width: !!python/tuple [1.0]}", "python/tuple"),
    "a tag of its own": ("study: !study {}", "!study"),
    "a set": ("study: {runner: autopatch}\nobjectives: !!set {ap}\nspace: {width: 1}", "list"),
    "bytes": (GOOD + "measures: [!!binary aGk=]", "measures.0: b'hi'"),
    "an ordered map": (GOOD + "memory: !!omap [backend: torch]", "memory: [('backend'"),
    "a date": (GOOD + "measures: [2026-01-01]", "measures.0: datetime.date"),
    "a date that is none": (GOOD + "measures: [2026-13-45]", "valid YAML"),
    "a list as key": (GOOD + "? [a]\n: 1", "unhashable"),
    "a number as key": (GOOD + "1: 2", "1: 1 is not allowed"),
    "null as key": (GOOD + "~: 2", "None: None is not allowed"),
    "NaN as key": (GOOD + ".nan: 2", "nan: nan is not allowed"),
    "more than a megabyte": ("# " + "x" * 1_000_000, "below 1 MB"),
    "many keys": ("space:\n" + "".join(f"  k{i}: 1\n" for i in range(10_000)), "study.runner"),
    "long text": (GOOD.replace("autopatch", "x" * 500_000), "study.runner: 'xxx"),
    "a long key": (GOOD + "x" * 1000 + ": 1", "a known key"),
    "a number of many digits": (GOOD + f"resources: {{cpu: {digits(100_000)}}}", "resources.cpu"),
    "no study": ("space: {width: 1}\nobjectives: [ap]", "study.runner: None"),
    "no space": ("study: {runner: autopatch}\nobjectives: [ap]", "space: None"),
    "no objectives": ("study: {runner: autopatch}\nspace: {width: 1}", "objectives: None"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_files(refusal: Refused, case: str) -> None:
    content, part = FILES[case]
    assert part in refusal(content)


VALUES = [
    ("study.seed", ".nan", "1e400", "-1", "'5'", "4294967296", "true", HUGE, "9" * 4000),
    ("study.trials", "0", "2.5", "'3'", "true", "1e400", "[3]", "99999999999999999999", "1e2"),
    ("study.timeout", "soon", "-1", "0", ".nan", ".inf", "1e400", "[1]", "1e300", "9" * 60 + "d"),
    ("study.trial_timeout", "1e308", "-.inf", "5 weeks", "{}"),
    ("study.retries", "-1", "1e9", "many", "'2'"),
    ("study.name", '""', "../up", "a/b", ".hidden", '"\\0"', '"a\\nb"', "x" * 101),
    ("study.runner", "os.system", '""', '"\\0"', "3", "null"),
    ("dataset.image_size", "20000", "31", "'64'", "64.5", "-64", HUGE),
    ("dataset.seed", "-1", "9" * 40, "0.5"),
    ("dataset.root", '"\\0"', "~nobody-of-that-name/x", "a" * 5000, '""', "7", "/dev/null"),
    ("dataset.category", "../brick", '"\\0"', '"a\\nb"', "a" * 5000, '""', "3"),
    ("dataset.name", "other", "3"),
    ("dataset.mask_rule", "max", "0", "null"),
    ("dataset.test_skip", "-1", "1.5", "0"),
    ("dataset.validation", "3", "{real_per_type: -1}", "{normal: 0}", "{normal: 99999999999}"),
    ("dataset.validation.synthetic", "{per_image: 101}", "{kind: none}", "{seed: 4294967296}"),
    ("dataset.labelled", "{train: 0.5, val: 0.5}", "{train: .nan}", "{train: 2}", "[]"),
    ("backbone.weights", '"\\0"', '""', "~nobody-of-that-name/x", "a" * 5000, "/dev/zero", "3"),
    ("backbone", "{study: x}", "{trial: 0}", "{study: '', trial: 0}", "{study: x, trial: -1}"),
    ("synthesis.textures", '"\\0"', "3", '""'),
    ("resources.cpu", "0", ".nan", ".inf", "'1'", "-1"),
    ("resources.gpu", "-1", ".nan", ".inf", "many", "true"),
    ("resources.max_concurrent", "0", "1.5", "all"),
    ("sampler.name", "cmaes", "3"),
    ("sampler.ei_candidates", "0", "999999999999"),
    ("sampler.startup_trials", "9" * 30),
    ("sampler.population_size", "1", "9" * 30),
    ("pruner.first_rung", "0", "1", ".nan"),
    ("memory.backend", "gpu", "null"),
    ("objectives", "[]", "gflops", "{gflops: 1}", "[[ap]]", "[1]", "[ap, ap]", '["a\\nb"]'),
    ("measures", "[__class__]", "[ap, ap]", "ap"),
    ("constraints", "['gflops < 1']", "['gflops <= nan']", "['gflops <= 1e400']", "[1]",
     "['__import__(1) <= 1']", "['ap <= 1', 'ap <= 2']", f"['{'g' * 3000} <= 1']", "['<= 1']"),
    ("start", "[{width: 3}]", "[{wdth: 1}]", "{width: 1}", "[3]", "[{width: [1.0]}]", "[{1: 2}]",
     "[{width: .nan}]", f"[{{stage0.patch_size: {HUGE}}}]"),
    ("space", "3", "{}", "[width]", "{1: [1]}", "{'': [1]}", "{unheard_of: [1]}",
     "{" + ", ".join(f"p{i}: 1" for i in range(1001)) + "}"),
    ("space.width", "[]", "[.nan]", "[1.0, 1]", "['1.0']", "[[1.0]]", "[1.0, null]", "''", HUGE,
     "{}", "{step: 1}", "{1: 2}", "{choice: 3}", "{choice: [1.0], int: [1, 2]}", "2024-01-01",
     "{float: [1, 1.2]}", "{float: [.nan, 1]}", "{float: [1, .inf]}", "{float: [1, 1e400]}",
     "{float: [2, 1]}", "{float: ['1', '1.2']}", "{float: [0, 1.2], log: true}",
     "{float: [-1e308, 1e308]}", "{float: [1, 1.2], step: 0}", "{float: [1, 1.2], step: 1e-320}",
     f"{{float: [1, {HUGE}]}}", "{int: [1, 1.2]}", "{int: [1, 2, 3]}", "{int: 3}",
     f"{{int: [1, {HUGE}]}}", "{int: [1, 2], step: 0.5}", "{int: [1, 2], log: 1}",
     "{int: [1, 9007199254740992]}",
     "[" + ", ".join(map(str, range(1001))) + "]"),
]  # fmt: skip
PAIRS = [(key, value) for key, *values in VALUES for value in values]


@pytest.mark.parametrize(
    ("key", "value"), PAIRS, ids=[f"{key}-{value[:20]}" for key, value in PAIRS]
)
def test_values(refusal: Refused, key: str, value: str) -> None:
    line = refusal(GOOD, f"{key}={value}")
    # Of a file or folder that is not there, the name is what was written.
    assert key in line or value in line


CONDITIONS = {
    "on itself": ("{width: {choice: [1.0], when: {width: 1.0}}}", "a circle"),
    "on each other": (
        "{width: {choice: [1.0], when: {stage0.patch_size: 1}}, "
        "stage0.patch_size: {int: [1, 2], when: {width: 1.0}}}",
        "a circle",
    ),
    "in a circle of three": (
        "{a: {choice: [1], when: {b: 1}}, b: {choice: [1], when: {c: 1}}, "
        "c: {choice: [1], when: {a: 1}}}",
        "a circle",
    ),
    "on an impossible value": (
        "{width: {choice: [1.0], when: {stage0.patch_size: 3}}, stage0.patch_size: [1, 2]}",
        "a value that stage0.patch_size can take",
    ),
    "on a value between steps": (
        "{width: {choice: [1.0], when: {a: 2}}, a: {int: [1, 9], step: 2}}", "a can take"
    ),
    "on true for one": ("{width: {choice: [1.0], when: {a: true}}, a: 1}", "a can take"),
    "on text for a number": ("{width: {choice: [1.0], when: {a: '1'}}, a: [1, 2]}", "a can take"),
    "on nobody": ("{width: {choice: [1.0], when: {nobody: 1}}}", "'nobody'"),
    "on nothing": ("{width: {choice: [1.0], when: {}}}", "other_parameter"),
    "on no value": ("{width: {choice: [1.0], when: {a: []}}, a: 1}", "at least one choice"),
    "on NaN": ("{width: {choice: [1.0], when: {a: .nan}}, a: {float: [1, 2]}}", "finite"),
    "as a list": ("{width: {choice: [1.0], when: [a]}, a: 1}", "other_parameter"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONDITIONS)
def test_conditions(refusal: Refused, case: str) -> None:
    space, part = CONDITIONS[case]
    line = refusal(GOOD, f"space={space}")
    assert "space." in line and ".when" in line and part in line


PLACES = {
    "too long": "a" * 5000,
    "a home of nobody": "~nobody-of-that-name/x",
    "a line break": "a\nb",
    "an escape sequence": "\x1b]0;title\x07",
    "no text": "a\udcffb",
    "nothing": "",
    "a device": "/dev/zero",
    "below a file": "/dev/null/x",
}


@pytest.mark.parametrize("command", ["run", "show", "resume", "report", "data check"])
@pytest.mark.parametrize("case", PLACES)
def test_places(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    after = ["brick"] if command == "data check" else []
    line = refused(tmp_path, *command.split(), PLACES[case], *after)
    assert one_line(PLACES[case])[:100] in line


def test_links_to_themselves_and_folders(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for place in (tmp_path / "loop.yaml", tmp_path):
        assert str(place) in refused(tmp_path, "run", place)
    assert "loop.yaml" in refused(tmp_path, "data", "check", tmp_path / "loop.yaml", "brick")


def test_a_file_that_cannot_be_read(refused: Refused, tmp_path: Path) -> None:
    # Opened by anybody, but its first bytes are nobody's.
    (tmp_path / "bad.yaml").symlink_to("/proc/self/mem")
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    for name in ("bad.yaml", "endless.yaml"):
        assert name in refused(tmp_path, "run", tmp_path / name)


@pytest.mark.parametrize(
    "arguments", [["--timeout", "1e400"], ["--timeout", "nan"], ["--name", "a/b"],
                  ["--name", "x" * 5000], ["--name", "a\x1b"], ["--set", "study"],
                  ["--set", "=1"], ["--set", "study.trials=["], ["--set", "objectives.x=1"],
                  ["--set", "study.seed=!!python/name:os.abort"]],
)  # fmt: skip
def test_options(refused: Refused, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    refused(tmp_path, "run", tmp_path / "good.yaml", *arguments)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates()
    | st.integers(10**300, 10**400) | st.text(st.characters(codec="utf-8"), max_size=20)
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers() | st.booleans(), inner, max_size=4)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["study", "study.name", "study.seed", "study.timeout", "space", "space.width", "start",
     "objectives", "constraints", "dataset", "dataset.root", "dataset.validation", "backbone",
     "backbone.architecture", "resources", "sampler", "memory", "zz"]
)  # fmt: skip


def placed(key: str, value: object) -> str:
    """A good spec with one value replaced."""
    content: dict[str, Any] = yaml.safe_load(GOOD)
    section, _, name = key.partition(".")
    if name:
        content.setdefault(section, {})[name] = value
    else:
        content[section] = value
    return yaml.safe_dump(content, allow_unicode=True)


# Whatever passes is refused for its runner in the end.
NOBODY = "study.runner=nobody"


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(KEYS, ANYTHING.filter(lambda value: "\ud800" not in repr(value)))
@example("space.width", {"float": [0, 10**400]})
@example("start", [{"width": math.inf}])
def test_anything_in_the_place_of_a_value(refusal: Refused, key: str, value: object) -> None:
    refusal(placed(key, value), NOBODY)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_spec_with_bytes_changed(refusal: Refused, data: st.DataObject) -> None:
    content = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        content = content or bytearray(b" ")
    refusal(bytes(content), NOBODY)


@settings(deadline=None)
@given(st.text(), st.integers(0, 10**5))
def test_one_line_is_one(text: str, digits: int) -> None:
    line = one_line(text * (1 + digits // 100))
    assert line.isprintable() and len(line) < 2000
    assert one_line(line) == line or len(line) > 1500
    assert len(str(ConfigError("key", int("f" * (digits // 10 + 1), 16), text[:9]))) < 1000


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    (tmp_path / "bad.yaml").write_text(f"study: !!python/object/apply:os.mkdir ['{proof}']\n")
    done = subprocess.run(
        [sys.executable, "-c", "from autosearch.cli import main; main()", "run", "bad.yaml"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: bad.yaml:1: ") and done.stderr.count("\n") == 1
    assert not proof.exists() and not (tmp_path / "results").exists()
