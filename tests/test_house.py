"""The plan of the house: who may import whom, and what starts quickly."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each room imports only from those before it.
ROOMS = (
    "errors", "files", "study_log", "database", "strict_yaml", "space", "constraint", "spec",
    "trials", "stored", "outbox", "optuna_study", "journal", "pareto", "metrics",
    "thresholds", "bootstrap", "data", "synthesis", "features", "supernets", "weights",
    "complexity", "pruning", "memory", "coreset", "detector", "objectives", "registry",
    "maps", "results", "leases", "sampling", "early_stopping", "study", "evaluate", "executors",
    "search", "correlation", "final", "final_view", "console", "export", "predict", "report",
    "cli",
)  # fmt: skip

# What systems that are searched may know: the contracts and the parts they are built from.
FOR_RUNNERS = ROOMS[: ROOMS.index("detector") + 1]

MODULES = sorted((ROOT / "autosearch").rglob("*.py"))
RUNNERS = sorted((ROOT / "runners").rglob("*.py"))


def room_of(path: Path) -> str:
    """The first part of a module's name below the package."""
    return path.relative_to(ROOT / "autosearch").with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import of a module, wherever in it, relative ones too.

    Of ``from package import name`` the name counts as a module, as it may be one.
    """
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *filter(None, [node.module])))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def rooms_imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of every import from autosearch; names of the package itself are none."""
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "autosearch" and parts[1:] and not parts[1].startswith("__"):
            yield line, parts[1]


def test_every_module_has_its_place_in_the_order() -> None:
    found = {room_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert found <= set(ROOMS), "add the new room to ROOMS, behind all that it imports"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_from_rooms_before_it(path: Path) -> None:
    room = room_of(path)
    allowed = {room, *ROOMS[: ROOMS.index(room)]} if room in ROOMS else set()
    wrong = [f"line {line}: {name}" for line, name in rooms_imported(path) if name not in allowed]
    assert not wrong


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_toolkit_knows_no_runner_and_no_space(path: Path) -> None:
    outside = {"runners", "autosearch_runners", "searchspaces", "autosearch_searchspaces", "tests"}
    assert not [name for _, name in imports(path) if name.split(".")[0] in outside]


@pytest.mark.parametrize("path", RUNNERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_runners_import_contracts_and_parts_only(path: Path) -> None:
    wrong = [(line, name) for line, name in rooms_imported(path) if name not in FOR_RUNNERS]
    assert not wrong
    # The folder is installed under another name, so its modules must find each other relatively.
    own = {"runners", "autosearch_runners"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    absolute = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level
    ]
    assert not [node.module for node in absolute if (node.module or "").split(".")[0] in own]


def test_the_walk_sees_every_kind_of_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "autosearch" / "data" / "odd.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "import autosearch.cli\n"
        "from autosearch import study, __version__\n"
        "from ..search import run\n"
        "from . import records\n"
        "if TYPE_CHECKING:\n    from autosearch.evaluate import TrialEvaluator\n"
        "def late():\n    from autosearch.executors.local import LocalExecutor\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert sorted(rooms_imported(module)) == [
        (1, "cli"), (2, "study"), (3, "search"), (4, "data"), (6, "evaluate"), (8, "executors"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("autosearch.cli", {"torch", "ray", "optuna", "pydantic", "scipy", "autosearch.study"}),
        ("autosearch.space", {"torch", "ray", "optuna", "numpy"}),
        ("autosearch.pareto", {"torch", "ray", "optuna", "scipy"}),
        ("autosearch.spec", {"torch", "ray", "optuna", "numpy"}),
        ("autosearch.thresholds", {"torch", "scipy", "optuna", "pydantic"}),
        ("autosearch.predict", {"torch", "optuna", "ray"}),
        ("autosearch.registry", {"torch", "ray", "optuna"}),
        ("autosearch.results", {"torch", "ray"}),
        ("autosearch.study", {"torch", "ray"}),
        ("autosearch.evaluate", {"ray", "optuna"}),
    ],
)
def test_what_starts_quickly_loads_nothing_heavy(module: str, absent: set[str]) -> None:
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & absent
