"""The page of the web UI where no build of that is installed: no script, for any browser (web-ui.md, C-30)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple
from urllib.parse import quote

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>llamaswap</title>
<style>
body {{ font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 50rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ border-bottom: 1px solid #8888; padding: .3rem .6rem; text-align: left; }}
form {{ display: inline; }}
</style>
</head>
<body>
<h1>llamaswap {version}</h1>
<p>The web interface is not part of this installation. A folder with a build of one can be named by
<code>ui.path</code>.</p>
<table>
<thead><tr><th>Model</th><th>State</th><th></th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<p><a href="/logs/stream/">Log</a> <a href="/running">Running</a> <a href="/metrics">Metrics</a>
<a href="/v1/models">Models</a></p>
</body>
</html>
"""

_ROW = """<tr><td>{name}</td><td>{state}</td><td>
<form method="post" action="/api/models/load/{path}"><button>Load</button></form>
<form method="post" action="/api/models/unload/{path}"><button>Unload</button></form></td></tr>"""


class Row(NamedTuple):
    """One model.

    Attributes:
        model: Its id.
        state: Of its process.
    """

    model: str
    state: str


def plain_page(version: str, rows: Sequence[Row]) -> str:
    """Write the page."""
    written = (
        _ROW.format(name=escape(row.model), state=escape(row.state), path=escape(quote(row.model, safe="/")))
        for row in rows
    )
    return _PAGE.format(version=escape(version), rows="\n".join(written))
