"""Where the view's files are, which the page and the dashboard share.

A page that shows the view loads plotly.js, then `SCRIPTS` in this order and `STYLE`, all from
`ASSETS`, and calls ``autosearch.mount(root, data, options)``; the head of ``view.js`` says what
these are. ``data`` comes from `autosearch.report.info.view_data`.
"""

from importlib.resources import files

ASSETS = files("autosearch.report") / "assets"
SCRIPTS = (
    "view-data.js",
    "view-ensembles.js",
    "view-charts.js",
    "view-parts.js",
    "view-table.js",
    "view-recommended.js",
    "view-compare.js",
    "view-notes.js",
    "view-links.js",
    "view-keys.js",
    "view-budget.js",
    "view-marks.js",
    "view-space.js",
    "view-frame.js",
    "view-print.js",
    "view.js",
)
STYLE = "view.css"
