"""The documents say what the code does: links, tables, commands and the example spec."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote, urlsplit

import pytest
import typer
import yaml
from markdown_it import MarkdownIt  # What rich reads Markdown with.
from markdown_it.token import Token
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autosearch import api
from autosearch.cli.app import app
from autosearch.contracts import check_space, understood
from autosearch.contracts.objectives import TABLE
from autosearch.contracts.registry import resolve_objectives
from autosearch.spec.reading import dataset_spec, load_spec
from autosearch.spec.sections import Section, StudySpec

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES]

RUNNERS = api.runners()
OURS = sorted(
    entry.name
    for entry in entry_points(group="autosearch.runners")
    if entry.dist and entry.dist.name == "autosearch"
)
SPACES = api.spaces()
COMMAND: Any = typer.main.get_command(app)

# Defaults that are no plain values, by section and key; what is looked up is no default at all.
IN_WORDS = {"study.name": "the file's name without `.yaml`", "dataset.validation": "as below"}
LOOKED_UP = {"backbone.architecture"}


# Markdown, read.


@cache
def tokens(document: str) -> list[Token]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return MarkdownIt("commonmark").enable("table").parse(text)


def inline(document: str) -> Iterator[Token]:
    """Runs of text, links, pictures and code, wherever they stand."""
    for token in tokens(document):
        yield from token.children or ()


def plain(token: Token) -> str:
    """A heading as it is read: without markup."""
    return "".join(child.content for child in token.children or ())


def headings(document: str) -> Iterator[tuple[int, str]]:
    """Level and text of every heading."""
    page = tokens(document)
    for token, text in pairwise(page):
        if token.type == "heading_open":
            yield int(token.tag[1:]), plain(text)


def anchors(document: str) -> set[str]:
    """Anchors that GitHub gives to headings."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for _, text in headings(document):
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(document: str) -> Iterator[str]:
    """Targets of links and pictures that lie in this repository."""
    for token in inline(document):
        target = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if target and not urlsplit(target).scheme:
            yield unquote(target)


@dataclass
class Table:
    """A table with the headings above it, outermost first; rows map columns to cells."""

    under: tuple[str, ...]
    columns: list[str]
    rows: list[dict[str, str]]


@cache
def tables(document: str) -> list[Table]:
    found: list[Table] = []
    under: list[str] = []
    cells: list[str] = []
    page = tokens(document)
    for token, text in pairwise(page):
        if token.type == "heading_open":
            under[int(token.tag[1:]) - 1 :] = [plain(text)]
        elif token.type == "table_open":
            found.append(Table(tuple(under), [], []))
        elif token.type in ("th_open", "td_open"):
            cells.append(text.content)
        elif token.type == "tr_close":
            table = found[-1]
            if table.columns:
                table.rows.append(dict(zip(table.columns, cells, strict=True)))
            else:
                table.columns = cells
            cells = []
    return found


def tables_of(document: str, first: str) -> list[Table]:
    """The tables whose first column has this title."""
    return [table for table in tables(document) if table.columns[0] == first]


def names(cell: str) -> list[str]:
    """What stands in backticks in a cell that holds nothing else but commas."""
    parts = cell.split(", ")
    assert all(re.fullmatch("`[^`]+`", part) for part in parts), f"not names alone: {cell}"
    return [part[1:-1] for part in parts]


def blocks(document: str, *languages: str) -> list[str]:
    """Code blocks in these languages; the empty one is that of blocks which name none."""
    fences = [token for token in tokens(document) if token.type == "fence"]
    return [fence.content for fence in fences if fence.info.strip() in languages]


# Links, and the pages as a whole.


def broken_links(document: str) -> list[str]:
    broken = []
    for link in links(document):
        target, _, anchor = link.partition("#")
        path = ((ROOT / document).parent / target).resolve() if target else ROOT / document
        there = path.is_relative_to(ROOT) and path.exists()
        if not there or (anchor and anchor not in anchors(str(path.relative_to(ROOT)))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    assert broken_links(document) == []


def test_links_are_found():
    assert "docs/spec.md#layout" in links("README.md")
    assert "docs/report.png" in links("README.md")


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def leaves(nav: object) -> Iterator[str]:
    """Pages of a navigation, however it is nested."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from leaves(part)


def test_the_site_has_every_page_once():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(f"docs/{page}" for page in leaves(site["nav"])) == PAGES


# Methods: every parameter of every runner.


def documented_parameters(runner: str) -> list[tuple[str, str, str, str]]:
    """Name, default, allowed values and help as the table in the runner's section has them."""
    (table,) = [t for t in tables_of("docs/methods.md", "parameter") if t.under[1:] == (runner,)]
    return [
        (name, row["default"], row["allowed"], row["what it does"])
        for row in table.rows
        for name in names(row["parameter"])
    ]


@pytest.mark.parametrize("runner", OURS)
def test_methods_have_every_parameter(runner):
    assert (2, runner) in headings("docs/methods.md")
    assert sorted(documented_parameters(runner)) == sorted(
        (name, f"`{json.dumps(info.default)}`", info.allowed(), info.help)
        for name, info in RUNNERS[runner].parameters.items()
        if "/" not in name  # One of a method that has a section of its own.
    )


def test_methods_have_no_other_runner():
    found = [table.under[1] for table in tables_of("docs/methods.md", "parameter")]
    assert sorted(found) == OURS


# The spec: every key, every objective, the example.


def section_of(field: FieldInfo) -> type[Section] | None:
    """The kind of section that a key holds, also if it may be null."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def sections(model: type[Section], prefix: str = "") -> dict[str, type[Section]]:
    """All sections below one, by their dotted names."""
    found: dict[str, type[Section]] = {}
    for key, field in model.model_fields.items():
        kind, name = section_of(field), prefix + key
        if kind is not None and name not in LOOKED_UP:
            found |= {name: kind, **sections(kind, f"{name}.")}
    return found


SECTIONS = sections(StudySpec)


def shown(value: Any) -> str:
    """A default as the tables have it."""
    if isinstance(value, BaseModel):
        return "as below" if value == type(value)() else repr(value)
    return f"`{value}`" if isinstance(value, (str, list)) else json.dumps(value)


def defaults(section: str, model: type[Section]) -> dict[str, str]:
    """Keys of a section, and their defaults as the tables have them."""
    found = {}
    for key, field in model.model_fields.items():
        value = "required" if field.is_required() else shown(field.get_default())
        found[key] = IN_WORDS.get(f"{section}.{key}", value)
    return found


def documented_keys(heading: str) -> dict[str, str]:
    (table,) = [t for t in tables_of("docs/spec.md", "key") if t.under[-1] == heading]
    found = [(name, row["default"]) for row in table.rows for name in names(row["key"])]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("section", SECTIONS)
def test_spec_has_every_key(section):
    assert documented_keys(section) == defaults(section, SECTIONS[section])


def test_spec_has_every_section():
    listed = documented_keys("objectives, measures, constraints")
    expected = defaults("", StudySpec)
    assert listed == {key: expected[key] for key in listed}
    titles = {text for _, text in headings("docs/spec.md")}
    assert set(StudySpec.model_fields) <= titles | set(listed)
    found = {table.under[-1] for table in tables_of("docs/spec.md", "key")}
    assert found == {*SECTIONS, "objectives, measures, constraints"}


def test_spec_has_every_objective():
    (table,) = [t for t in tables_of("docs/spec.md", "name") if "better" in t.columns]
    better = {"minimize": "lower", "maximize": "higher"}
    assert [
        (row["name"], row["better"], row["unit"], row["stored anyway"]) for row in table.rows
    ] == [
        (f"`{name}`", better[known.direction], known.unit, "yes" if known.default else "")
        for name, known in TABLE.items()
    ]


def test_spec_example_can_be_run(tmp_path):
    (example,) = blocks("docs/spec.md", "yaml")
    (tmp_path / "mine.yaml").write_text(example, encoding="utf-8")
    spec = load_spec(tmp_path / "mine.yaml")
    check_space(spec.parsed_space, understood(RUNNERS[spec.study.runner]), spec.study.runner)
    assert list(resolve_objectives(spec, TABLE)) == spec.objectives


def variables(folder: str) -> set[str]:
    """Our environment variables that Python files name."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py")]
    return set(re.findall(r"\bAUTOSEARCH_[A-Z_]*[A-Z]\b", "\n".join(texts)))


def test_spec_has_every_environment_variable():
    (table,) = tables_of("docs/spec.md", "variable")
    listed = set(re.findall(r"`(AUTOSEARCH_\w+)`", "\n".join(r["variable"] for r in table.rows)))
    assert variables("autosearch")
    assert variables("autosearch") <= listed
    assert listed <= variables("autosearch") | variables("tests")


# Commands.


def arguments(line: str) -> str | None:
    """What follows ``autosearch`` in a line of a shell, None if that runs something else."""
    words = line.removeprefix("$ ").split()
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    if not words or Path(words[0]).name != "autosearch":
        return None
    return line.partition(words[0])[2]


def command_lines(document: str) -> list[str]:
    """Arguments of every call of ``autosearch`` in a document's code blocks."""
    text = "\n".join(blocks(document, "", "bash", "console", "sh", "shell"))
    calls = map(arguments, text.replace("\\\n", " ").splitlines())
    return [call.strip() for call in calls if call is not None]


def mentions(document: str) -> list[str]:
    """The same of code within sentences, where arguments may be left out."""
    codes = [token.content for token in inline(document) if token.type == "code_inline"]
    return [code.partition(" ")[2] for code in codes if code.startswith("autosearch ")]


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that some words call, and its arguments."""
    command = COMMAND
    while words and not words[0].startswith("-") and hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"no command {name}"
        command = command.commands[name]
    return command, words


def check_mention(text: str) -> None:
    """Refuse commands and options that there are not."""
    command, words = find_command(shlex.split(text))
    known = {"--help"}.union(*(parameter.opts for parameter in command.params))
    for word in words:
        option = word.partition("=")[0]
        assert option in known or not option.startswith("-"), f"no option {option}"


def check_call(text: str) -> None:
    """Refuse a call that the command itself would refuse before it looks at files."""
    command, words = find_command(shlex.split(text, comments=True))
    given = command.make_context(command.name, words).params
    overrides = given.get("overrides") or ()
    if command.name == "run" and given["space"] in WRITTEN:
        dataset_spec(o for o in overrides if o.startswith("dataset."))
    elif command.name == "run":
        assert given["space"] in SPACES, f"no space {given['space']}"
        spec = load_spec(SPACES[given["space"]], overrides)
        check_space(spec.parsed_space, understood(RUNNERS[spec.study.runner]), spec.study.runner)
        resolve_objectives(spec, TABLE)
    elif overrides:
        dataset_spec(overrides)


WRITTEN = {
    f"{Path(call.split()[1]).name}.yaml"
    for document in ("README.md", *PAGES)
    for call in command_lines(document)
    if call.startswith("init ")
}
"""Specs that `autosearch init` writes by the calls that the documents show."""


def refused(check: Callable[[str], None], texts: Iterable[str]) -> dict[str, str]:
    """Of some texts those that do not pass, and why."""
    reasons = {}
    for text in texts:
        try:
            check(text)
        except Exception as error:  # typer may bring its own click, whose errors have no name here
            reasons[text] = f"{type(error).__name__}: {error}"
    return reasons


@pytest.mark.parametrize("document", ["README.md", *PAGES])
def test_commands_in_code_blocks_are_accepted(document):
    assert refused(check_call, command_lines(document)) == {}


def test_commands_are_found():
    assert "data check" in [" ".join(call.split()[:2]) for call in command_lines("README.md")]
    assert arguments("$ A=b .venv/bin/autosearch run x") == " run x"
    assert arguments("pip install autosearch") is None
    assert "run" in mentions("docs/spec.md")


@pytest.mark.parametrize("document", ["README.md", *PAGES])
def test_commands_in_sentences_exist(document):
    assert refused(check_mention, mentions(document)) == {}
