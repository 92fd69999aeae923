"""Line charts of cost against size, both axes logarithmic, as SVG: written here, with no library. Pure.

Light and dark by the reader's system; each line is told by its name at its end and by its marks, not by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 34, 48
_COLOURS = ("#1d4ed8", "#b45309", "#047857", "#be123c", "#6d28d9", "#0e7490", "#4d7c0f", "#a21caf")
_DARK = ("#93c5fd", "#fbbf24", "#6ee7b7", "#fda4af", "#c4b5fd", "#67e8f9", "#bef264", "#f0abfc")
_LEAST_APART = 14.0

Points = Sequence[tuple[float, float]]
Place = Callable[[float], float]


def chart(title: str, across: str, up: str, lines: Mapping[str, Points], limit: tuple[str, float] | None = None) -> str:
    """An SVG of some lines, each of points (size, cost) greater than zero; `limit` is drawn across, with its name."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points] + ([limit[1]] if limit else [])
    x_from, x_to = _decades(xs)
    y_from, y_to = _decades(ys)

    def at_x(value: float) -> float:
        return LEFT + (math.log10(value) - x_from) / (x_to - x_from) * (WIDTH - LEFT - RIGHT)

    def at_y(value: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(value) - y_from) / (y_to - y_from) * (HEIGHT - TOP - BOTTOM)

    body = [f'<text class="t" x="{LEFT}" y="20">{escape(title)}</text>']
    body += _grid(x_from, x_to, y_from, y_to, at_x, at_y)
    middle = (LEFT + WIDTH - RIGHT) / 2
    body.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    body.append(f'<text x="{LEFT}" y="{TOP - 2}">{escape(up)}</text>')
    if limit:
        y = at_y(limit[1])
        body.append(f'<line class="l" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(f'<text x="{LEFT + 4}" y="{y - 4:.1f}">{escape(limit[0])}</text>')
    ends = _apart({name: at_y(points[-1][1]) for name, points in lines.items()})
    for place, (name, points) in enumerate(lines.items()):
        drawn = [(at_x(x), at_y(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        body.append(f'<polyline class="s{place}" points="{path}"/>')
        body += [f'<circle class="m{place}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in drawn]
        body.append(f'<text x="{WIDTH - RIGHT + 10}" y="{ends[name] + 4:.1f}" class="n{place}">{escape(name)}</text>')
    return _framed(title, body, len(lines))


def _decades(values: Sequence[float]) -> tuple[int, int]:
    least, most = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return least, max(most, least + 1)


def _grid(x_from: int, x_to: int, y_from: int, y_to: int, at_x: Place, at_y: Place) -> list[str]:
    found = []
    for power in range(x_from, x_to + 1):
        x = at_x(10.0**power)
        found.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP + 4}" y2="{HEIGHT - BOTTOM}"/>')
        found.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_told(10.0**power)}</text>')
    for power in range(y_from, y_to + 1):
        y = at_y(10.0**power)
        found.append(f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        found.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_told(10.0**power)}</text>')
    return found


def _told(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _apart(wanted: Mapping[str, float]) -> dict[str, float]:
    """Where names stand: beside the end of their line, but never over one another."""
    placed: dict[str, float] = {}
    last = -math.inf
    for name, y in sorted(wanted.items(), key=lambda pair: pair[1]):
        last = placed[name] = max(y, last + _LEAST_APART)
    return placed


def _framed(title: str, body: Sequence[str], number: int) -> str:
    def styles(colours: Sequence[str]) -> str:
        return "".join(
            f".s{each}{{stroke:{colours[each % len(colours)]}}}.m{each},.n{each}{{fill:{colours[each % len(colours)]}}}"
            for each in range(number)
        )

    style = (
        "text{font:12px system-ui,sans-serif;fill:#333}.t{font-weight:600;font-size:14px}.g{stroke:#ddd}"
        ".l{stroke:#333;stroke-dasharray:5 4}polyline{fill:none;stroke-width:2}rect{fill:#fff}"
        f"{styles(_COLOURS)}@media(prefers-color-scheme:dark){{rect{{fill:#111}}text{{fill:#ccc}}.g{{stroke:#333}}"
        f".l{{stroke:#ccc}}{styles(_DARK)}}}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    parts = [head, f"<title>{escape(title)}</title>", f"<style>{style}</style>"]
    return "\n".join([*parts, f'<rect width="{WIDTH}" height="{HEIGHT}"/>', *body, "</svg>"]) + "\n"
