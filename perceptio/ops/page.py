"""The layout of HTML reports: one self-contained file, with a light and a dark theme."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import attrs

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1d2129; --soft: #5c6470; --line: #e3e4e6;
  --card: #f5f6f7; --accent: #3b7ddd; --good: #1f8a4c; --bad: #c8382d; }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --ink: #e6e8eb; --soft: #9aa3af; --line: #2c3038;
  --card: #1c1f25; --accent: #6aa3f5; --good: #4cc17c; --bad: #f0766b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { font-size: 2.1rem; line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 .6rem; }
h2 { font-size: 1.35rem; letter-spacing: -0.01em; margin: 3.2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
p { max-width: 46rem; margin: .5rem 0 1rem; }
.lead { font-size: 1.12rem; }
.soft, figcaption, .caption { color: var(--soft); font-size: .88rem; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, monospace; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; margin: .8rem 0 1.2rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); white-space: nowrap; }
td, th { padding: .38rem 1.1rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; }
tr.strong td { font-weight: 650; } tr.strong .soft { font-weight: 400; }
td:last-child, th:last-child { padding-right: 0; }
.cards { --width: 300px; display: grid; gap: 1.1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(var(--width), 100%), 1fr)); }
.cards.small { --width: 220px; font-size: .9rem; } .cards.broad { --width: 440px; }
.card { background: var(--card); border-radius: 10px; padding: .8rem; margin: 0; }
.card p { margin: .5rem 0 .3rem; line-height: 1.4; }
.card table { font-size: .84rem; margin: .4rem 0 0; width: 100%; }
.card td, .card th { padding: .18rem .5rem .18rem 0; overflow-wrap: anywhere; }
.row { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: .4rem; }
.row figure { margin: 0; }
.row figcaption { font-size: .76rem; line-height: 1.3; margin-top: .15rem; }
.right { color: var(--good); font-weight: 650; } .wrong { color: var(--bad); font-weight: 650; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .45rem .9rem; align-items: center;
  max-width: 46rem; margin: 1.2rem 0; font-size: .95rem; }
.track { position: relative; height: 1.15rem; background: var(--card); border-radius: 4px; }
.bar { position: absolute; inset: 0 auto 0 0; border-radius: 4px; }
.whisker { position: absolute; top: 50%; height: 2px; margin-top: -1px; background: var(--ink); }
.whisker::before, .whisker::after { content: ""; position: absolute; top: -4px; height: 10px; width: 2px;
  background: inherit; }
.whisker::before { left: 0; } .whisker::after { right: 0; }
.forest { display: grid; grid-template-columns: fit-content(14rem) minmax(7rem, 1fr) 17rem; gap: .5rem 1.1rem;
  align-items: center; max-width: 56rem; margin: .8rem 0 1.4rem; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
.forest .axis { position: relative; min-height: 1.3rem; align-self: stretch; }
.forest .axis > * { position: absolute; }
.zero { top: -.5rem; bottom: -.5rem; width: 1px; background: var(--soft); opacity: .5; }
.thin, .thick { top: 50%; border-radius: 3px; }
.thin { height: 2px; margin-top: -1px; opacity: .45; } .thick { height: 6px; margin-top: -3px; opacity: .75; }
.dot { top: 50%; width: 12px; height: 12px; margin: -6px 0 0 -6px; border-radius: 50%;
  border: 2px solid var(--paper); }
.tick { transform: translateX(-50%); color: var(--soft); font-size: .8rem; white-space: nowrap; }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; font-size: .88rem; color: var(--soft); }
.whole { white-space: nowrap; }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .55em; }
.key i { display: inline-block; width: 1.1em; height: .28em; border-radius: 2px; vertical-align: .22em;
  margin-right: .4em; }
.curves svg { width: 100%; height: auto; }
details { margin: .5rem 0; } summary { cursor: pointer; }
pre { background: var(--card); border-radius: 8px; padding: 1rem; overflow: auto; max-height: 32rem; font-size: .8rem;
  line-height: 1.45; }
"""


def page(title: str, sections: Sequence[str], *, style: str = "") -> str:
    """Return a complete HTML document.

    Args:
        title: Its title.
        sections: Its content, as HTML.
        style: CSS rules in addition to those of every report.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, strong: int = 0, numbers: bool = True
) -> str:
    """Return a table as HTML.

    Args:
        head: The headings of its columns.
        rows: Its rows.
        strong: Number of rows to highlight, from the first on.
        numbers: Whether all columns except the first contain numbers instead of text.
    """
    others_class = ' class="number"' if numbers else ""

    def cells(tag: str, row: Sequence[str]) -> str:
        first, *others = row
        return f"<{tag}>{first}</{tag}>" + "".join(f"<{tag}{others_class}>{cell}</{tag}>" for cell in others)

    body = "".join(
        f'<tr class="strong">{cells("td", row)}</tr>' if number < strong else f"<tr>{cells('td', row)}</tr>"
        for number, row in enumerate(rows)
    )
    return f'<div class="wide"><table><tr>{cells("th", head)}</tr>{body}</table></div>'


def bars(rows: Sequence[tuple[str, float, tuple[float, float] | None, str]]) -> str:
    """Return horizontal bars of shares in [0, 1]: label, value, 95% interval or None, color."""
    parts = []
    for label, value, interval, color in rows:
        whisker = ""
        if interval is not None:
            low, high = interval
            whisker = (
                f'<span class="whisker" style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></span>'
            )
        parts.append(
            f'<span>{label}</span><span class="track"><span class="bar" style="width:{100 * value:.1f}%;'
            f'background:{color}"></span>{whisker}</span><span>{percent(value)}</span>'
        )
    return f'<div class="bars">{"".join(parts)}</div>'


@attrs.frozen(kw_only=True)
class Mark:
    """A row of a forest plot.

    Attributes:
        label: Its label, as HTML.
        value: A difference.
        thick: An interval drawn as a thick line, or None.
        thin: An interval drawn as a thin line, or None.
        color: Color of value and intervals.
        text: A description of the values, as HTML.
    """

    label: str
    value: float
    thick: tuple[float, float] | None
    thin: tuple[float, float] | None
    color: str
    text: str


def forest(marks: Sequence[Mark]) -> str:
    """Return a forest plot of differences with their intervals, on one scale that includes 0."""
    ends = [0.0, *(end for mark in marks for end in (mark.value, *(mark.thick or ()), *(mark.thin or ())))]
    low, high = min(ends), max(ends)
    low, high = (low, high) if high > low else (-1.0, 1.0)
    margin = 0.04 * (high - low)
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    def line(interval: tuple[float, float] | None, css_class: str, color: str) -> str:
        if interval is None:
            return ""
        left, right = map(place, interval)
        style = f"left:{left:.2f}%;width:{right - left:.2f}%;background:{color}"
        return f'<span class="{css_class}" style="{style}"></span>'

    zero = f'<span class="zero" style="left:{place(0):.2f}%"></span>'
    parts = []
    for mark in marks:
        dot = f'<span class="dot" style="left:{place(mark.value):.2f}%;background:{mark.color}"></span>'
        drawn = line(mark.thin, "thin", mark.color) + line(mark.thick, "thick", mark.color)
        parts.append(
            f'<span>{mark.label}</span><span class="axis">{zero}{drawn}{dot}</span><span>{mark.text}</span>'
        )
    ticks = "".join(
        f'<span class="tick" style="left:{place(tick):.2f}%">{f"{tick:+g}" if tick else "0"}</span>'
        for tick in ticks_between(low, high)
    )
    parts.append(f'<span></span><span class="axis">{ticks}</span><span></span>')
    return f'<div class="wide"><div class="forest">{"".join(parts)}</div></div>'


def ticks_between(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers between two ends: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(one for one in (power, 2 * power, 5 * power, 10 * power) if (high - low) / one <= most)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def key(colors: Mapping[str, str]) -> str:
    """Return a legend of curves: names with their colors."""
    items = "".join(
        f'<span><i style="background:{color}"></i>{name}</span>' for name, color in colors.items()
    )
    return f'<div class="key">{items}</div>'


def card(*parts: str) -> str:
    """Return a box with some content."""
    return f'<div class="card">{"".join(parts)}</div>'


def figure(svg: str, caption: str) -> str:
    """Return a drawing with its caption, which is HTML."""
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


def percent(value: float) -> str:
    """Format a share in [0, 1] as `81.2%`."""
    return f"{100 * value:.1f}%"


def interval_text(interval: Sequence[float]) -> str:
    """Format an interval of shares as `78.9–83.4%`."""
    low, high = interval
    return f"{100 * low:.1f}–{100 * high:.1f}%"


def range_text(interval: Sequence[float]) -> str:
    """Format an interval as `0.512–0.556`."""
    low, high = interval
    return f"{low:.3f}–{high:.3f}"
