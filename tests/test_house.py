"""The plan of the house: who may import whom, what a room shows, and what starts quickly."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up: a room stands on some of those before it, and on no other.
ROOMS = (
    "errors", "files",                          # the ground: everybody stands on it
    "spec",                                     # what a person asks for
    "data", "synthesis", "metrics",             # images, made-up anomalies, figures of merit
    "backbones", "memory", "graphs",            # what detectors are built from
    "contracts",                                # what the search and runners agree on
    "storage", "study", "executors",            # a search: kept, driven, carried out
    "report", "export", "tracking",             # what comes of it
    "api", "testing", "cli",                    # the doors: Python, conformance, the command
)  # fmt: skip

# Systems that are searched know the contracts and the parts that they are built from.
FOR_RUNNERS = ROOMS[: ROOMS.index("contracts") + 1]

MODULES = sorted((ROOT / "autosearch").rglob("*.py"))
RUNNERS = sorted((ROOT / "runners").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path, root: Path = ROOT) -> str:
    """Absolute name of a module of the toolkit."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(path: Path, root: Path = ROOT) -> str:
    """The first part of a module's name below the package; the front door's is empty."""
    return ([*module_of(path, root).split("."), ""])[1]


def imports(path: Path, root: Path = ROOT) -> Iterator[tuple[int, str, str | None]]:
    """Line, absolute module and name taken from it, of every import wherever in a module."""
    package = path.relative_to(root).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *filter(None, [node.module])))
            yield from ((node.lineno, base, alias.name) for alias in node.names)


def taken(path: Path, root: Path = ROOT) -> Iterator[tuple[int, str, str, str | None]]:
    """Line, room, module and name of every import from autosearch; names of its own are none."""
    for line, module, name in imports(path, root):
        parts = module.split(".")
        if parts[0] != "autosearch":
            continue
        if len(parts) == 1 and name is not None:
            if not name.startswith("__"):
                yield line, name, f"autosearch.{name}", None
        else:
            yield line, ([*parts, ""])[1], module, name


def public(room: str) -> set[str]:
    """Names that a room shows."""
    found: set[str] = set(importlib.import_module(f"autosearch.{room}").__all__)
    return found


def test_every_module_has_its_place_in_the_order() -> None:
    assert {room_of(path) for path in MODULES} - {""} == set(ROOMS)


def test_the_picture_of_the_house_is_true() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = text.split("```")[1].splitlines()
    height = {
        room: number
        for number, line in enumerate(picture)
        for room in line.split("  <--")[0][:32].split()
        if room in ROOMS
    }
    assert height.keys() == set(ROOMS), "every room is drawn once"
    for path in (path for path in MODULES if room_of(path)):
        for _, other, *_ in taken(path):
            assert height[other] >= height[room_of(path)], f"{path} uses what is drawn above it"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_room_stands_only_on_rooms_before_it(path: Path) -> None:
    room = room_of(path)
    allowed = {room, *ROOMS[: ROOMS.index(room)]} if room else {"api"}
    assert not [f"line {line}: {other}" for line, other, *_ in taken(path) if other not in allowed]


@pytest.mark.parametrize("path", [*MODULES, *RUNNERS, *BENCHMARKS], ids=named)
def test_a_room_is_entered_by_its_door_alone(path: Path) -> None:
    own = room_of(path) if path in MODULES else None
    wrong = []
    for line, room, module, name in taken(path):
        if room == own or not (ROOT / "autosearch" / room).is_dir():
            continue
        inner = module != f"autosearch.{room}"
        if inner or (name is not None and name not in public(room)):
            wrong.append(f"line {line}: {name} of {module}; is it in {room}/__init__.pyi?")
    assert not wrong


@pytest.mark.parametrize("door", sorted((ROOT / "autosearch").glob("*/__init__.pyi")), ids=named)
def test_nothing_that_a_door_gives_has_the_name_of_a_module(door: Path) -> None:
    """Else a door may give the module, where that was imported before."""
    modules = {path.stem for path in door.parent.glob("*.py")}
    given = {
        alias.name
        for node in ast.parse(door.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
    assert given and not given & modules


@pytest.mark.parametrize("room", [room for room in ROOMS if (ROOT / "autosearch" / room).is_dir()])
def test_modules_of_a_room_form_no_loop(room: str) -> None:
    inside = {module_of(path): path for path in MODULES if room_of(path) == room}
    graph = {}
    for module, path in inside.items():
        found = [(base, f"{base}.{name}") for _, _, base, name in taken(path)]
        graph[module] = {whole if whole in inside else base for base, whole in found}
    known = {module: (others & inside.keys()) - {module} for module, others in graph.items()}
    assert len(list(TopologicalSorter(known).static_order())) == len(inside)


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in ("errors", "files")])
def test_what_a_room_shows_is_there(room: str) -> None:
    module = importlib.import_module(f"autosearch.{room}")
    assert module.__doc__
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_the_toolkit_knows_no_runner_and_no_space(path: Path) -> None:
    outside = {"runners", "autosearch_runners", "searchspaces", "autosearch_searchspaces", "tests"}
    assert not [name for _, name, _ in imports(path) if name.split(".")[0] in outside]


@pytest.mark.parametrize("path", RUNNERS, ids=named)
def test_runners_import_contracts_and_parts_only(path: Path) -> None:
    assert not [(line, room) for line, room, *_ in taken(path) if room not in FOR_RUNNERS]
    # The folder is installed under another name, so its modules must find each other relatively.
    own = {"runners", "autosearch_runners"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    absolute = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level
    ]
    assert not [node.module for node in absolute if (node.module or "").split(".")[0] in own]


def test_the_walk_sees_every_kind_of_import(tmp_path: Path) -> None:
    module = tmp_path / "autosearch" / "data" / "odd.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "import autosearch.cli\n"
        "from autosearch import study, __version__\n"
        "from ..export import run\n"
        "from . import records\n"
        "if TYPE_CHECKING:\n    from autosearch.study import TrialEvaluator\n"
        "def late():\n    from autosearch.executors.local import LocalExecutor\n"
    )
    found = sorted(taken(module, tmp_path))
    assert [entry[:2] for entry in found] == [
        (1, "cli"), (2, "study"), (3, "export"), (4, "data"), (6, "study"), (8, "executors"),
    ]  # fmt: skip
    assert found[-1][2:] == ("autosearch.executors.local", "LocalExecutor")


@pytest.mark.parametrize(
    ("script", "absent"),
    [
        ("import autosearch.cli", {"torch", "ray", "optuna", "pydantic", "scipy"}),
        ("import autosearch; autosearch.search", {"torch", "ray"}),
        ("from autosearch.spec import Space", {"torch", "ray", "optuna", "numpy", "pydantic"}),
        ("from autosearch.spec import StudySpec", {"torch", "ray", "optuna", "numpy"}),
        ("from autosearch.metrics import pareto", {"torch", "ray", "optuna", "scipy"}),
        ("from autosearch.metrics import decide", {"torch", "scipy", "optuna", "pydantic"}),
        ("from autosearch.export import Predictor", {"torch", "optuna", "ray"}),
        ("import autosearch; autosearch.Predictor", {"torch", "optuna", "ray"}),
        ("from autosearch.contracts import registry", {"torch", "ray", "optuna"}),
        ("from autosearch.storage import StudyFolder", {"torch", "ray"}),
        ("import autosearch; autosearch.open_study", {"torch", "ray"}),
        ("from autosearch.study import StudyDriver", {"torch", "ray"}),
        ("from autosearch.study import TrialEvaluator", {"ray", "optuna"}),
    ],
)
def test_what_starts_quickly_loads_nothing_heavy(script: str, absent: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {script}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "autosearch" in loaded
    assert not loaded & absent
