# SPDX-License-Identifier: Apache-2.0
"""Line charts and bar charts as inline SVG, for bench_report.py."""

import html
import math

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 76, 34, 14, 48
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"]
DASHES = ["", "7 4", "2 3", "9 3 2 3"]


def short(value):
    """A number for a label: three digits and k, M or G."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


class Axis:
    """Maps values to pixels. A logarithmic axis starts and ends at powers of ten."""

    def __init__(self, values, start, end, is_log=True, ticks=None):
        self.is_log = is_log
        self.start, self.end = start, end
        low, high = min(values), max(values)
        if ticks is not None:
            self.ticks = ticks
            low, high = ticks[0][0], ticks[-1][0]
        elif is_log:
            low = 10 ** math.floor(math.log10(low) + 1e-9)
            high = max(10 ** math.ceil(math.log10(high) - 1e-9), low * 10)
            powers = range(round(math.log10(low)), round(math.log10(high)) + 1)
            self.ticks = [(10.0**p, short(10.0**p)) for p in powers]
        else:
            step = 10 ** math.floor(math.log10(high))
            step = next(s for s in (step / 5, step / 2, step, step * 2) if high / s <= 6)
            high = math.ceil(high / step) * step
            low = 0
            self.ticks = [(i * step, short(i * step)) for i in range(round(high / step) + 1)]
        self.low, self.high = self._scale(low), self._scale(high)

    def _scale(self, value):
        return math.log10(value) if self.is_log else value

    def __call__(self, value):
        part = (self._scale(value) - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)


def _text(x, y, content, anchor="middle", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{html.escape(content)}</text>'


def _grid(x_axis, y_axis, x_title, y_title):
    parts = []
    for value, label in y_axis.ticks:
        y = y_axis(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, label, "end"))
    for value, label in x_axis.ticks:
        x = x_axis(value)
        parts.append(f'<line class="grid" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="{x:.1f}" x2="{x:.1f}"/>')
        parts.append(_text(x, HEIGHT - BOTTOM + 18, label))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, more=' class="title"'))
    parts.append(_text(16, middle, y_title, more=f' class="title" transform="rotate(-90 16 {middle})"'))
    return parts


def lines(series, x_title, y_title, x_ticks=None, log_x=True, log_y=True, x_map=None):
    """series: (name, colour number, dash number, [(x, y, low or None, high or None)])."""
    place = x_map or (lambda x: x)
    all_y = [v for _, _, _, points in series for p in points for v in p[1:] if v]
    all_x = [place(p[0]) for _, _, _, points in series for p in points]
    if not all_y:
        return ""
    if x_ticks is not None:
        x_ticks = [(place(value), label) for value, label in x_ticks]
    x_axis = Axis(all_x, LEFT, WIDTH - RIGHT, log_x, x_ticks)
    y_axis = Axis(all_y, HEIGHT - BOTTOM, TOP, log_y)
    parts = _grid(x_axis, y_axis, x_title, y_title)
    for name, colour, dash, points in series:
        stroke = COLOURS[colour % len(COLOURS)]
        where = [(x_axis(place(x)), y_axis(y)) for x, y, _, _ in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
        parts.append(
            f'<polyline fill="none" stroke="{stroke}" stroke-width="2" '
            f'stroke-dasharray="{DASHES[dash % len(DASHES)]}" points="{path}"/>'
        )
        for (x, y, low, high), (px, py) in zip(points, where):
            if low and high:
                parts.append(
                    f'<line stroke="{stroke}" x1="{px:.1f}" x2="{px:.1f}" '
                    f'y1="{y_axis(low):.1f}" y2="{y_axis(high):.1f}"/>'
                )
            tip = html.escape(f"{name}: {short(x)} → {short(y)}")
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{stroke}"><title>{tip}</title></circle>')
    return _figure(parts, HEIGHT) + legend(series)


def legend(series):
    items = []
    for name, colour, dash, _ in series:
        items.append(
            '<span><svg width="28" height="10"><line x1="0" x2="28" y1="5" y2="5" stroke-width="3" '
            f'stroke="{COLOURS[colour % len(COLOURS)]}" stroke-dasharray="{DASHES[dash % len(DASHES)]}"/>'
            f"</svg> {html.escape(name)}</span>"
        )
    return f'<div class="legend">{"".join(items)}</div>'


# By the last word of what stands beside a bar.
BAR_COLOURS = {"better": COLOURS[2], "worse": COLOURS[1], "floor": COLOURS[0]}


def ratios(rows):
    """Bars from 1 to the right or left on a logarithmic scale: (name, ratio, text)."""
    rows = [r for r in rows if r[1] and r[1] > 0]
    if not rows:
        return ""
    name_width, row_height = 330, 22
    most = max(1.25, max(max(r, 1 / r) for _, r, _ in rows))
    half = (WIDTH - name_width - 130) / 2
    one = name_width + 10 + half
    scale = half / math.log(most)
    parts = []
    for i, (name, ratio, text) in enumerate(rows):
        y = 8 + i * row_height
        width = math.log(ratio) * scale
        parts.append(_text(name_width, y + 14, name, "end"))
        colour = BAR_COLOURS.get(text.split()[-1], COLOURS[6])
        parts.append(
            f'<rect x="{min(one, one + width):.1f}" y="{y + 3}" height="{row_height - 8}" '
            f'width="{max(1, abs(width)):.1f}" fill="{colour}"/>'
        )
        parts.append(_text(WIDTH - 4, y + 14, text, "end"))
    height = 16 + row_height * len(rows)
    parts.append(f'<line class="axis" x1="{one:.1f}" x2="{one:.1f}" y1="2" y2="{height - 4}"/>')
    return _figure(parts, height)


def _figure(parts, height):
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'
