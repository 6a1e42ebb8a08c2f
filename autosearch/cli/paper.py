r"""Tables for papers and READMEs: LaTeX with booktabs, and Markdown.

What may stand in a name or a value is no markup of either: it is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from autosearch.cli.cells import NONE, Cells
from autosearch.errors import one_line

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "±": r"$\pm$",
    "…": r"\dots{}",
}
_NUMBER = re.compile(r"-|[-+]?[0-9][0-9.]*(e[-+]?[0-9]+)?( \[.*\])?")
# Between letters an underscore emphasises nothing, and names can be read as they are.
_MARKDOWN = re.compile(r"[\\`*|<]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def latex(cells: Cells) -> str:
    """A ``tabular`` that needs the package booktabs; notes follow as comments."""
    body = [_latex_row(row) for row in cells.rows]
    head = [_latex_row(cells.heads), r"  \midrule"] if any(cells.heads) else []
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in _rights(cells))}}}",
        r"  \toprule",
        *head,
        *body,
        r"  \bottomrule",
        r"\end{tabular}",
        *(f"% {one_line(note)}" for note in cells.notes),
    ]
    return "\n".join(lines) + "\n"


def markdown(cells: Cells) -> str:
    """A table with pipes; notes follow as lines of text."""
    rights = _rights(cells)
    rows = [[_markdown(text) for text in row] for row in (cells.heads, *cells.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    ruled = ["-" * (width - 1) + ":" if right else "-" * width
             for width, right in zip(widths, rights, strict=True)]  # fmt: skip
    lines = [_piped(rows[0], widths, rights), _piped(ruled, widths, rights)]
    lines += [_piped(row, widths, rights) for row in rows[1:]]
    lines += [part for note in cells.notes for part in ("", _markdown(note))]
    return "\n".join(lines) + "\n"


def escaped_latex(text: str) -> str:
    """Text of any origin as LaTeX prints it."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _latex_row(texts: Sequence[str]) -> str:
    row = " & ".join("--" if text == NONE else escaped_latex(text) for text in texts)
    # After the end of a line LaTeX takes a bracket for the space below it.
    return f"  {'{}' if row.startswith('[') else ''}{row} \\\\"


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", text)


def _piped(texts: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> str:
    padded = (
        text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(texts, widths, rights, strict=True)
    )
    return f"| {' | '.join(padded)} |"


def _rights(cells: Cells) -> list[bool]:
    """Whether each column holds numbers alone, which stand at its right."""
    columns = zip(*cells.rows, strict=True)
    return [all(_NUMBER.fullmatch(text) for text in column) for column in columns]
