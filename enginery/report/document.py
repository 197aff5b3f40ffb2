"""A self-contained HTML page: its style, its tables, its parts that fold.

The page asks nothing of any host; its own policy forbids it. It is read in light and dark, on a
phone and in print, with a keyboard and a screen reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root{color-scheme:light dark;--text:#16212e;--back:#fff;--soft:#f2f5f9;--line:#ccd5df;
--muted:#4a5868;--accent:#0b5cad;--bad:#a3161f;--badback:#fdecec;--good:#16653a;--warn:#7a4b00}
@media(prefers-color-scheme:dark){:root{--text:#e6edf5;--back:#10161d;--soft:#1a232d;--line:#34414f;
--muted:#a9b7c6;--accent:#7db8f5;--bad:#ff9a9a;--badback:#3a1618;--good:#7fd6a2;--warn:#f0c271}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:78rem;padding:1rem 1.25rem 3rem;background:var(--back);
color:var(--text);font:16px/1.5 system-ui,sans-serif}
h1{margin:.2em 0;font-size:1.7rem}h2{margin:2rem 0 .5rem;font-size:1.25rem}
p{margin:.4rem 0}.muted{color:var(--muted)}a{color:var(--accent)}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;background:var(--back);padding:.5rem}
nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:.6rem 0;padding:0;list-style:none}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.5rem .7rem;color:var(--muted)}
th,td{padding:.35rem .7rem;text-align:left;vertical-align:top;border-top:1px solid var(--line)}
thead th{background:var(--soft);white-space:nowrap}tbody th{font-weight:600;white-space:nowrap}
.number{text-align:right;white-space:nowrap}
.failed{border-left:5px solid var(--bad);background:var(--badback);padding:.6rem 1rem;
margin:.6rem 0}
.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}
.warn{color:var(--warn);font-weight:600}
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer;font-weight:600}
summary:focus-visible,a:focus-visible,.scroll:focus-visible{outline:3px solid var(--accent)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}
dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}
svg{vertical-align:middle}.bars{fill:var(--accent)}.mark{stroke:var(--bad);stroke-width:1.5}
.made{display:block;margin:.5rem}.made path{fill:none;stroke:var(--muted);stroke-width:1.5}
.made rect{fill:var(--soft);stroke:var(--line)}.made .file rect{fill:var(--back);
stroke:var(--accent)}.made text{fill:var(--text);font:11px ui-monospace,monospace}
.made .name{font:600 12px system-ui,sans-serif}
h3{margin:.8rem 0 .2rem;font-size:1rem}.pair{display:flex;flex-wrap:wrap;gap:.5rem 1rem}
figure{margin:0;flex:1 1 16rem;max-width:30rem}figcaption{color:var(--muted)}
.sample{display:block;width:100%;height:auto;border:1px solid var(--line);border-radius:4px}
.sample polygon{fill:none;stroke-width:1.5}.sample rect{fill:#10161d}
.sample text{font:11px ui-monospace,monospace}
@media(max-width:40rem){body{padding:.7rem}dl{display:block}dd{margin:0 0 .4rem 1rem}
th,td{padding:.3rem .5rem}}
@media print{:root{--text:#000;--back:#fff;--soft:#eee;--line:#999;--muted:#333;--accent:#000;
--bad:#000;--badback:#fff;--good:#000;--warn:#000}nav,.skip{display:none}.scroll{overflow:visible}
details::details-content{content-visibility:visible;height:auto}tr,figure,.failed{break-inside:avoid}}
"""


class Html(str):
    """Text that is HTML already; any other text is escaped."""


Cell = str | Html


def text(value: Cell) -> Html:
    """A text as HTML."""
    return value if isinstance(value, Html) else Html(escape(value))


def page(title: str, parts: Sequence[tuple[str, str, Html]], intro: Html) -> str:
    """A whole page: `parts` are anchor, heading and body, in their order."""
    links = "".join(f'<li><a href="#{anchor}">{text(name)}</a></li>' for anchor, name, _ in parts)
    body = "".join(
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{text(name)}</h2>{inner}</section>'
        for anchor, name, inner in parts
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<link rel="icon" href="data:,"><title>{text(title)}</title><style>{_STYLE}</style>'
        '</head><body><a class="skip" href="#main">To the contents</a>'
        f'<header><h1>{text(title)}</h1>{intro}<nav aria-label="Contents"><ul>{links}</ul></nav>'
        f'</header><main id="main">{body}</main></body></html>\n'
    )


def table(caption: str, rows: Iterable[Mapping[str, Cell]], numbers: Sequence[str] = ()) -> Html:
    """Rows of equal keys; the first column heads its row, `numbers` stand to the right."""
    rows = list(rows)
    titles = list(rows[0]) if rows else []
    head = "".join(
        f'<th scope="col"{_number(title, numbers)}>{text(title)}</th>' for title in titles
    )
    body = "".join(_row(row, numbers) for row in rows)
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def fold(summary: str, body: Html, is_open: bool = False) -> Html:
    """A part that opens when it is asked for."""
    opened = " open" if is_open else ""
    return Html(f"<details{opened}><summary>{text(summary)}</summary>{body}</details>")


def described(sections: Iterable[tuple[str, Sequence[str]]]) -> Html:
    """Headings, each with its lines."""
    items = (
        f"<dt>{text(name)}</dt><dd>{'<br>'.join(map(text, lines))}</dd>" for name, lines in sections
    )
    return Html(f"<dl>{''.join(items)}</dl>")


def paragraph(value: Cell, kind: str = "") -> Html:
    """A paragraph."""
    return Html(f'<p class="{kind}">{text(value)}</p>' if kind else f"<p>{text(value)}</p>")


def marked(value: str, kind: str) -> Html:
    """A word whose colour repeats what it says."""
    return Html(f'<span class="{kind}">{text(value)}</span>')


def _row(row: Mapping[str, Cell], numbers: Sequence[str]) -> str:
    first, *others = row.items()
    cells = "".join(f"<td{_number(title, numbers)}>{text(value)}</td>" for title, value in others)
    return f'<tr><th scope="row">{text(first[1])}</th>{cells}</tr>'


def _number(title: str, numbers: Sequence[str]) -> str:
    return ' class="number"' if title in numbers else ""
