"""Names to runners, objectives and search spaces, this package's own and installed others'.

Other packages add theirs through entry points: ``autosearch.runners`` names `Runner` classes,
``autosearch.objectives`` `Objective` records, ``autosearch.searchspaces`` packages of YAML files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.contracts.objectives import TABLE, Objective
from autosearch.errors import AutosearchError, ConfigError, did_you_mean
from autosearch.files import user_path
from autosearch.spec import StudySpec

if TYPE_CHECKING:  # Looking for spaces must not load torch.
    from autosearch.contracts.detector import Runner


def runner_names() -> list[str]:
    """Names of all installed runners."""
    return sorted(entry.name for entry in entry_points(group="autosearch.runners"))


def load_runner(name: str) -> type[Runner]:
    """The runner of a name.

    Raises:
        ConfigError: No runner has the name.
    """
    found = {entry.name: entry for entry in entry_points(group="autosearch.runners")}
    if name not in found:
        raise ConfigError("study.runner", name, f"a runner; {did_you_mean(name, found)}")
    runner: type[Runner] = _load(found[name])
    return runner


def objectives(
    others: Iterable[Objective] = (), meta: Mapping[str, Any] | None = None
) -> dict[str, Objective]:
    """All objectives by name.

    Args:
        others: Some that are installed under no name.
        meta: What a study's ``meta.json`` says. Objectives that were measured there and are not
            known here can still be named and compared, if not measured.
    """
    installed = [_load(entry) for entry in entry_points(group="autosearch.objectives")]
    stored = (meta or {}).get("objectives", {})
    recorded = {name: Objective.recorded(name, **said) for name, said in stored.items()}
    return recorded | TABLE | {objective.name: objective for objective in (*installed, *others)}


def resolve_objectives(
    spec: StudySpec, known: Mapping[str, Objective] | None = None
) -> dict[str, Objective]:
    """The objectives of a study in its order.

    Args:
        spec: The study.
        known: What `objectives` gives; by default those that are installed.

    Raises:
        ConfigError: An objective, a measure or a constraint names nothing that can be measured.
    """
    known = objectives() if known is None else known
    named = [("objectives", name) for name in spec.objectives]
    named += [("measures", name) for name in spec.measures]
    named += [("constraints", constraint.name) for constraint in spec.parsed_constraints]
    for key, name in named:
        if name not in known:
            raise ConfigError(key, name, f"an objective; {did_you_mean(name, known)}")
    return {name: known[name] for name in spec.objectives}


def spaces() -> dict[str, Path]:
    """Search spaces that can be run by name."""
    packages = ["autosearch_searchspaces"]
    packages += [entry.value for entry in entry_points(group="autosearch.searchspaces")]
    found: dict[str, Path] = {}
    for package in packages:
        with as_file(files(package)) as folder:
            for path in sorted(folder.glob("*.yaml")):
                found.setdefault(path.stem, path)
    return found


def schema_path() -> Path:
    """The JSON schema of a spec that is installed with our own spaces."""
    with as_file(files("autosearch_searchspaces")) as folder:
        return folder / "schema.json"


def find_space(name: str) -> Path:
    """A space by path, or by the name of one that is installed.

    Raises:
        ConfigError: There is neither such a file nor such a name.
    """
    path = user_path(name, "SPACE")
    if path.is_file():
        return path
    known = spaces()
    if name in known:
        return known[name]
    allowed = f"a YAML file or the name of a space; {did_you_mean(path.stem, known)}"
    raise ConfigError("SPACE", name, allowed)


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise AutosearchError(f"{entry.group}: {entry.name} cannot be loaded: {error}") from error
