"""A small chart with two logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 50
COLORS = ("#1f6feb", "#8b949e", "#8b949e", "#d1242f")


@dataclass(frozen=True)
class Line:
    """Points of one kind; all are above zero."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    points_only: bool = False


def write_chart(path: Path, title: str, x_name: str, lines: Sequence[Line]) -> None:
    """Draw ``lines`` into ``path``."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_range, y_range = _decades(xs), _decades(ys)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + _share(x, x_range) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - _share(y, y_range) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 20, title, size=14),
        _text(WIDTH / 2, HEIGHT - 12, x_name),
    ]
    for power in range(x_range[0], x_range[1] + 1):
        x, bottom = at(10**power, 10 ** y_range[0])
        parts += [_rule(x, TOP, x, bottom), _text(x, bottom + 18, f"{10**power:,}")]
    for power in range(y_range[0], y_range[1] + 1):
        left, y = at(10 ** x_range[0], 10**power)
        label = f"{10.0**power:g}x"
        parts += [_rule(left, y, WIDTH - RIGHT, y), _text(left - 8, y + 4, label, anchor="end")]
    for index, (line, color) in enumerate(zip(lines, COLORS, strict=False)):
        spots = [at(x, y) for x, y in line.points]
        if not line.points_only:
            path_text = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
            dash = ' stroke-dasharray="5 4"' if line.dashed else ""
            parts.append(
                f'<polyline points="{path_text}" fill="none" stroke="{color}"'
                f' stroke-width="2"{dash}/>'
            )
        if not line.dashed:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>' for x, y in spots]
        y = TOP + 18 * (index + 1)
        parts.append(_text(LEFT + 12, y, line.name, anchor="start", color=color))
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around ``values``."""
    low, high = math.log10(min(values)), math.log10(max(values))
    return math.floor(low), max(math.ceil(high), math.floor(low) + 1)


def _share(value: float, powers: tuple[int, int]) -> float:
    return (math.log10(value) - powers[0]) / (powers[1] - powers[0])


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#d0d7de"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "middle",
    size: int = 12,
    color: str = "#24292f",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
        f' fill="{color}">{escape(text)}</text>'
    )
