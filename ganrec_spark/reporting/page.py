"""The report as one HTML page: text and SVG in, XHTML out; no scripts, nothing to download, usable on a telephone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ganrec_spark.reporting.answers import Answer

_STYLE = """
:root{--line:#d8dee4;--dim:#57606a;--good:#1a7f37;--bad:#b3261e;--odd:#9a6700}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:#1f2328;margin:0}
header,main{max-width:68em;margin:0 auto;padding:0 16px}
h1{font-size:1.5em;margin:.8em 0 .2em}h2{font-size:1.25em;margin:2em 0 .4em;scroll-margin-top:3em}
h3{font-size:1em;margin:1.4em 0 .2em;overflow-wrap:anywhere}
nav{position:sticky;top:0;background:#fff;border-bottom:1px solid var(--line)}
nav div{max-width:68em;margin:0 auto;padding:.5em 16px;overflow-x:auto;white-space:nowrap}
nav a{margin-right:1.2em;color:#0550ae;text-decoration:none}
dl{display:grid;grid-template-columns:minmax(10em,16em) 1fr;gap:.5em 1.2em;margin:1em 0}
dt{color:var(--dim)}dd{margin:0;border-left:3px solid var(--line);padding-left:.7em;overflow-wrap:anywhere}
dd.good{border-color:var(--good)}dd.bad{border-color:var(--bad)}dd.odd{border-color:var(--odd)}
@media(max-width:40em){dl{grid-template-columns:1fr}dd{margin-bottom:.6em}}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;margin:.6em 0}
td,th{padding:.25em .8em .25em 0;border-bottom:1px solid var(--line);text-align:left}
td,th{white-space:nowrap;vertical-align:top}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}td.words{white-space:normal;min-width:22em;overflow-wrap:anywhere}
td.id{max-width:24em;overflow:hidden;text-overflow:ellipsis}
figure{margin:.6em 0}figcaption{color:var(--dim);font-size:13px}svg{max-width:100%;height:auto}summary{cursor:pointer}
"""


@dataclass(frozen=True)
class Chapter:
    """A part of the page: its anchor, its title, and what stands in it, as HTML."""

    anchor: str
    title: str
    html: str


def page(run_id: str, answers: Iterable[Answer], sections: Sequence[Chapter]) -> str:
    """Return the page: the answers first, then the sections, each with an entry in the navigation."""
    links = "".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in sections)
    body = "".join(
        f'<section><h2 id="{section.anchor}">{escape(section.title)}</h2>{section.html}</section>'
        for section in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>Run {escape(run_id)}</title><style>{_STYLE}</style></head><body>"
        f"{headline(run_id, answers)}<nav><div>{links}</div></nav><main>{body}</main></body></html>\n"
    )


def headline(run_id: str, answers: Iterable[Answer]) -> str:
    """Return the first screen: what a reader wants to know before anything else."""
    rows = "".join(
        f'<dt>{escape(answer.question)}</dt><dd class="{answer.tone}">{escape(answer.words)}</dd>' for answer in answers
    )
    return f"<header><h1>Run {escape(run_id)}</h1><dl>{rows}</dl></header>"


def figure(svg: str, caption: str) -> str:
    """Return a figure with the sentence that says what to see in it."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table: numbers to the right, long texts may break, everything else stays on one line.

    A cell is text, a number, yes or no (a boolean) or nothing (None); `Words` may break, `Id` is cut where it is long.
    """
    body = [list(row) for row in rows]
    numeric = [
        any(isinstance(row[place], int | float) and not isinstance(row[place], bool) for row in body)
        for place in range(len(head))
    ]
    header = "".join(_head(name, right) for name, right in zip(head, numeric, strict=True))
    lines = "".join(f"<tr>{''.join(map(_cell, row, numeric))}</tr>" for row in body)
    return f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{lines}</tbody></table></div>'


def folded(title: str, html: str) -> str:
    """Return what is there for those who open it."""
    return f"<details><summary>{escape(title)}</summary>{html}</details>"


def paragraph(words: str) -> str:
    """Return a paragraph of plain words."""
    return f"<p>{escape(words)}</p>"


class Words(str):
    """A cell whose text may take several lines."""


class Id(str):
    """A cell that holds somebody's id: cut where it is long, whole when pointed at."""


def _head(name: str, number: bool) -> str:
    right = ' class="number"' if number else ""
    return f"<th{right}>{escape(name)}</th>"


def _cell(value: object, number: bool) -> str:
    if isinstance(value, Id):
        return f'<td class="id" title="{escape(value)}">{escape(value)}</td>'
    if isinstance(value, Words):
        return f'<td class="words">{escape(value)}</td>'
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if value is None:
        text = "–"
    elif isinstance(value, float):
        text = f"{value:.4g}" if abs(value) >= 1 else f"{value:.4f}"
    elif isinstance(value, int):
        text = f"{value:,}"
    else:
        text = str(value)
    return f'<td class="number">{escape(text)}</td>' if number else f"<td>{escape(text)}</td>"
