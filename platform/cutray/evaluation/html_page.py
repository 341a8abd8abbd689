"""The HTML that every report shares: a page of one file, and tables."""

from __future__ import annotations

import html
from collections.abc import Sequence

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
th,td{padding:.25rem .75rem;border-bottom:1px solid #8886;text-align:left}
table.figures :is(th,td):not(:first-child){text-align:right;white-space:nowrap}
svg{width:100%;max-width:40rem}svg text{font-size:12px;fill:currentColor}
figure{display:inline-block;margin:.25rem;vertical-align:top}figure img{max-width:100%}
figcaption{font-size:12px;opacity:.8;overflow-wrap:anywhere}
"""


def html_page(title: str, parts: Sequence[str], style: str = "") -> str:
    """Write a page without outside resources.

    Args:
        title: Title and heading.
        parts: HTML of its sections.
        style: CSS of this page alone.
    """
    heading = html.escape(title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{heading}</title><style>{_STYLE}{style}</style></head>"
        f"<body><h1>{heading}</h1>{''.join(parts)}</body></html>\n"
    )


def html_table(rows: Sequence[Sequence[str]], *, figures: bool = False) -> str:
    """Write rows as a table, the first one as its heading.

    Args:
        rows: Text of the cells, not escaped yet.
        figures: Whether all columns but the first hold numbers.
    """
    heading = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    opening = '<table class="figures">' if figures else "<table>"
    return f"{opening}<thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"
