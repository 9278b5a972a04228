"""Plots as SVG text: lines, bars and a matrix, without a script and without a library. What comes from outside is escaped here."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 150, 14, 34
_COLORS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#475569")
Points = Sequence[tuple[float, float]]


def text_of(value: object) -> str:
    """Return foreign text for HTML and SVG: escaped, control characters shown as what they are, a sign that something stood there."""
    return escape("".join(character if character.isprintable() else "�" for character in str(value)))


def line_plot(curves: Mapping[str, Points], *, x: str, y: str, span: tuple[float, float] | None = None, diagonal: bool = False) -> str:
    """Return curves by name over one pair of axes; `span` are the ends of the vertical one, the data's own unless given.

    `diagonal` draws the line where both are equal.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    low, high = span or _padded([value for _, value in points])
    left, right = min(place for place, _ in points), max(place for place, _ in points)
    if diagonal:
        left, right = 0.0, 1.0
    frame = _Frame(left, right if right > left else left + 1.0, low, high)
    lines = [_curve(frame, curve, _COLORS[number % len(_COLORS)]) for number, curve in enumerate(curves.values())]
    guide = [_path(frame, [(0.0, 0.0), (1.0, 1.0)], "#94a3b8", "4 4")] if diagonal else []
    return _svg([*frame.axes(x, y), *guide, *lines, *_legend(list(curves))], HEIGHT, f"{y} by {x}")


def bar_plot(bars: Mapping[str, tuple[float, tuple[float, float] | None]], *, unit: str) -> str:
    """Return shares of 1 by name as bars, with the whisker of an interval where there is one."""
    rows = []
    for number, (name, (value, interval)) in enumerate(bars.items()):
        top = 8 + number * 30
        rows.append(f'<text x="150" y="{top + 15}" text-anchor="end">{text_of(_short(name))}</text>')
        rows.append(f'<rect x="160" y="{top}" width="{max(0.0, value) * 360:.1f}" height="20" fill="{_COLORS[number % len(_COLORS)]}"/>')
        if interval:
            low, high = (160 + end * 360 for end in interval)
            rows.append(f'<path d="M{low:.1f} {top + 10}H{high:.1f}" stroke="#0f172a" stroke-width="2"/>')
        rows.append(f'<text x="528" y="{top + 15}">{value:.1%}</text>')
    return _svg(rows, 16 + 30 * len(bars), unit)


def matrix_plot(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return a confusion matrix: a row a label, shaded by the share of the row."""
    side = 34 if len(labels) <= 15 else 20
    margin = 120
    cells = []
    for row, found in enumerate(counts):
        total = sum(found) or 1
        y = margin + row * side
        cells.append(f'<text x="{margin - 6}" y="{y + side * 0.66:.1f}" text-anchor="end">{text_of(_short(labels[row]))}</text>')
        place = margin + row * side + side / 2
        turned = f'transform="rotate(-60 {place:.1f} {margin - 6})"'
        cells.append(f'<text x="{place:.1f}" y="{margin - 6}" {turned}>{text_of(_short(labels[row]))}</text>')
        for column, count in enumerate(found):
            cells.append(_cell(margin + column * side, y, side, count, count / total, right=row == column))
    size = margin + side * len(labels) + 60
    return _svg(cells, size, "confusion matrix: a row a label, a column what it was taken for", width=size)


class _Frame:
    """Where numbers are on the paper."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self._left, self._right, self._low, self._high = left, right, low, high

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return pixels from the upper left corner."""
        across = (x - self._left) / (self._right - self._left)
        up = (min(max(y, self._low), self._high) - self._low) / ((self._high - self._low) or 1.0)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    def axes(self, x: str, y: str) -> list[str]:
        """Return the frame, five lines with their numbers, and the names of both axes."""
        parts = []
        for step in range(5):
            value = self._low + (self._high - self._low) * step / 4
            _, level = self.place(self._left, value)
            parts.append(f'<path d="M{_LEFT} {level:.1f}H{WIDTH - _RIGHT}" stroke="#cbd5e1"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{level + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{text_of(x)}</text>')
        ends = ((self._left, _LEFT, "start"), (self._right, WIDTH - _RIGHT, "end"))
        parts += [f'<text x="{place}" y="{HEIGHT - 18}" text-anchor="{anchor}">{end:.4g}</text>' for end, place, anchor in ends]
        return [*parts, f"<title>{text_of(y)}</title>"]


def _curve(frame: _Frame, points: Points, color: str) -> str:
    if len(points) == 1:
        x, y = frame.place(*points[0])
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>'
    return _path(frame, points, color)


def _path(frame: _Frame, points: Points, color: str, dashes: str = "") -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (frame.place(*point) for point in points))
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="2"{dashed}/>'


def _legend(names: Sequence[str]) -> list[str]:
    return [
        f'<rect x="{WIDTH - _RIGHT + 12}" y="{_TOP + 20 * number}" width="12" height="12" fill="{_COLORS[number % len(_COLORS)]}"/>'
        f'<text x="{WIDTH - _RIGHT + 30}" y="{_TOP + 20 * number + 11}">{text_of(_short(name))}</text>'
        for number, name in enumerate(names)
    ]


def _cell(x: float, y: float, side: int, count: int, share: float, *, right: bool) -> str:
    color = "37,99,235" if right else "220,38,38"
    rect = f'<rect x="{x:.0f}" y="{y:.0f}" width="{side}" height="{side}" fill="rgba({color},{share:.2f})" stroke="#e2e8f0"/>'
    if not count:
        return rect
    ink = "#fff" if share > 0.6 else "#0f172a"
    return rect + f'<text x="{x + side / 2:.0f}" y="{y + side * 0.66:.0f}" text-anchor="middle" fill="{ink}">{count}</text>'


def _svg(parts: Sequence[str], height: float, label: str, *, width: float = WIDTH) -> str:
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" aria-label="{text_of(label)}">'
    return head + "".join(parts) + "</svg>"


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
