"""One HTML page that needs no other file: cards, sections, tables, figures."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from inference.demo.report_style import CSS


def page_of(title: str, cards: Iterable[tuple[str, str]], sections: Iterable[tuple[str, str]]) -> str:
    """The page's text.

    Args:
        title: its heading.
        cards: number and what it is, escaped here.
        sections: heading and HTML.
    """
    body = "".join(f"<section><h2>{heading}</h2>{text}</section>" for heading, text in sections)
    card_text = "".join(f"<div><b>{html.escape(v)}</b><span>{html.escape(t)}</span></div>" for v, t in cards)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>dmsim tune</title><style>{CSS}</style></head><body><main>"
        f"<header><h1>{title}</h1></header><div class=cards>{card_text}</div>{body}</main></body></html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls where it is wide; cells are escaped."""

    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<div class=scroll><table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table></div>"


def figure(path: Path, caption: str) -> str:
    """A PNG file inside of the page."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    caption = html.escape(caption, quote=True)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{caption}"><figcaption>{caption}</figcaption>'
        "</figure>"
    )
