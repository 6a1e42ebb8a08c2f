"""The suites at work for another package: what is right passes, and what is wrong fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

import outside_parts
import outside_runners
import pytest

import autosearch.testing

TESTS = Path(__file__).parent
SUITES = [name for name in autosearch.testing.__all__ if name.endswith("Suite")]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of pytest, run as another package would, without the settings of this one."""
    files = [TESTS / "outside_runners.py", TESTS / "outside_parts.py"]
    options = ["-vrf", "--tb=short", "-c", os.devnull, "--noconftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=tmp_path_factory.mktemp("outside"),
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def ran(output: str, result: str) -> list[tuple[str, str, set[str]]]:
    """Class, check and the parts of its id, of all tests with a result."""
    found = re.findall(rf"::(\w+)::(\w+)(?:\[(.*)\])? {result} ", output)
    return [(suite, check, set(parts.split("-"))) for suite, check, parts in found]


def test_what_is_right_passes(output: str) -> None:
    kinds = {"TestRunner", "TestBackbone", "TestObjective", "TestBank", "TestLayout"}
    assert kinds <= {suite for suite, _, _ in ran(output, "PASSED")}
    assert not [entry for entry in ran(output, "FAILED") if entry[0] in kinds]
    assert " ERROR " not in output


def test_every_fault_is_caught(output: str) -> None:
    broken = (*outside_runners.RUNNERS, *outside_parts.BANKS, *outside_parts.BACKBONES)
    broken = (*broken, *outside_parts.LAYOUTS)
    faults = {fault.__name__ for fault in broken} | set(outside_parts.OBJECTIVES)
    caught = {part for _, _, parts in ran(output, "FAILED") for part in parts}
    assert not faults - caught


@pytest.mark.parametrize("suite", SUITES)
def test_every_check_catches_a_fault(output: str, suite: str) -> None:
    checks = {name for name in dir(getattr(autosearch.testing, suite)) if name.startswith("test_")}
    assert not checks - {check for _, check, _ in ran(output, "FAILED")}


def test_failures_say_what_was_compared(output: str) -> None:
    assert re.search(r" 0 = Cost\(macs=0, flops=0, .*\)\.flops", output)


def test_without_pytest_only_a_suite_is_refused() -> None:
    script = (
        "import sys; sys.modules['pytest'] = None; import autosearch.testing\n"
        "try:\n    autosearch.testing.RunnerSuite\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == (
        "autosearch.testing.RunnerSuite needs pytest: pip install 'autosearch[testing]'\n"
    ), done.stderr
