"""What a study shows: plain records (`info`, `analysis`), and pages that draw them.

A page that shows the view loads plotly.js, then `SCRIPTS` in this order and `STYLE`, all from
`ASSETS`, and calls ``autosearch.mount(root, data, options)``; the head of ``view.js`` says what
these are. ``data`` comes from `autosearch.report.info.view_data`.
"""

from importlib.resources import files

ASSETS = files(__name__) / "assets"
SCRIPTS = ("view-data.js", "view-charts.js", "view-parts.js", "view-frame.js", "view.js")
STYLE = "view.css"
