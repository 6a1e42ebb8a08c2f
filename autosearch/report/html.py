"""Pages as one file: what stands in them can neither end an element nor load anything."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence


def page(
    title: str,
    style: str,
    body: str,
    blocks: Mapping[str, object],
    scripts: Sequence[str],
    scheme: str = "light dark",
) -> str:
    """A page that loads nothing from anywhere and runs no script but its own.

    Args:
        title: Plain text.
        style: CSS.
        body: HTML.
        blocks: Data for the scripts, by the id of their element.
        scripts: In order.
        scheme: Colour schemes that the style has.
    """
    scripts = [_harmless(script) for script in scripts]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    # Plotly sets styles of its own while it draws, which no hash can foresee.
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="color-scheme" content="{scheme}">',
            f"<title>{html.escape(title)}</title>",
            f"<style>body {{ margin: 0 }}\n{style}</style></head>",
            f"<body>{body}",
            *(
                f'<script type="application/json" id="{name}">{json_text(block)}</script>'
                for name, block in blocks.items()
            ),
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>\n",
        ]
    )


def json_text(content: object) -> str:
    """JSON in which no sign can end the script element around it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _harmless(script: str) -> str:
    """A script without the two texts that end or change the element around it.

    Both can only stand in strings there, in which the backslash means nothing.
    """
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
