"""Numbers into the shapes of a drawing: axes with round ticks, lines of few points, bars on a time line. Pure geometry, no markup.

Coordinates are those of an SVG's view box: x to the right, y down, one unit a pixel at the natural size.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from pages.story import Point

WIDTH, HEIGHT = 640.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 12.0, 12.0, 34.0
#: Points of one line that a reader can tell apart; more are thinned out, their extremes kept.
MAX_POINTS = 400


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One series of one attempt. ``path``: the ``d`` of an SVG path; ``dots`` where it is a single point. ``style``: a class name."""

    path: str
    style: str
    dots: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """``title`` names what is drawn, with its unit; ``told`` says it in a sentence, for whoever does not see it."""

    title: str
    told: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: float = WIDTH
    height: float = HEIGHT


def chart(title: str, unit: str, series: dict[str, list[Point]], along: str = "step") -> Chart | None:
    """A line chart over steps, or what else ``along`` names; ``series`` by style, each broken where another attempt took over.

    None where there is nothing to draw.
    """
    points = [point for each in series.values() for point in each if math.isfinite(point.value)]
    if not points:
        return None
    steps, values = [point.step for point in points], [point.value for point in points]
    x_ticks, y_ticks = ticks(min(steps), max(steps), 6, whole=True), ticks(min(values), max(values), 5)
    x = _scale(x_ticks[0], x_ticks[-1], LEFT, WIDTH - RIGHT)
    y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    lines = [
        _line([(x(point.step), y(point.value)) for point in run], style)
        for style, each in series.items()
        for run in _runs([point for point in each if math.isfinite(point.value)])
    ]
    told = f"{title}: from {number(values[0])} at {along} {steps[0]} to {number(values[-1])} at {along} {steps[-1]}, {unit}"
    return Chart(
        f"{title} ({unit})",
        told,
        tuple(lines),
        tuple(Tick(x(at), number(at)) for at in x_ticks),
        tuple(Tick(y(at), number(at)) for at in y_ticks),
    )


def ticks(low: float, high: float, about: int, *, whole: bool = False) -> list[float]:
    """Round values from at or below ``low`` to at or above ``high``, about so many: steps of 1, 2 or 5 times a power of ten."""
    if high - low <= 1e-9 * max(abs(low), abs(high)) or high - low < 1e-200:  # as good as flat
        high = max(high, low + (1.0 if whole or abs(low) < 1e-200 else abs(low) * 0.1))
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    if whole:
        step = max(1.0, step)
    first = math.floor(low / step)
    last = math.ceil(high / step)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(index * step, digits) for index in range(first, last + 1)]


def number(value: float) -> str:
    """Short: three significant digits, thousands as they are, powers of ten for the very small."""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.2g}"
    return f"{value:.4g}"


def thinned(points: list[tuple[float, float]], most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most about so many points: of each stretch its lowest and its highest, so that no spike is lost."""
    if len(points) <= most:
        return points
    stretch = math.ceil(2 * len(points) / most)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept += {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
    return sorted({points[0], *kept, points[-1]})


def _runs(points: list[Point]) -> list[list[Point]]:
    runs: list[list[Point]] = []
    for point in points:
        if not runs or runs[-1][-1].attempt != point.attempt:
            runs.append([])
        runs[-1].append(point)
    return runs


def _line(points: list[tuple[float, float]], style: str) -> Line:
    few = thinned(points)
    if len(few) == 1:
        return Line("", style, (few[0],))
    return Line("M" + "L".join(f"{px:.1f},{py:.1f}" for px, py in few), style)


def _scale(low: float, high: float, begin: float, end: float) -> "Scale":
    return Scale(low, high, begin, end)


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to coordinates, linearly."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


# --- the time line of attempts --------------------------------------------------------------------------------------

ROW, BAR = 30.0, 16.0
#: A bar that would be too short to be seen, or hit, is drawn this long.
SHORTEST_BAR = 3.0


@dataclass(frozen=True, slots=True)
class Span:
    """An attempt on the time line; ``until`` None: it runs. ``lost_s``: the end of it that was done again."""

    label: str
    begin: datetime
    until: datetime | None
    style: str
    lost_s: float = 0.0
    warned_at: datetime | None = None
    saves: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    style: str
    x: float
    y: float
    width: float
    lost_width: float
    warned_x: float | None
    saves: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TimeLine:
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    width: float
    height: float


#: Seconds between two ticks of a time line.
_TICK_S = (60, 300, 600, 1800, 3600, 2 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400)


def time_line(begin: datetime, end: datetime, spans: list[Span]) -> TimeLine:
    """Bars from ``begin`` to ``end``, one row an attempt, ticks at round distances from the begin."""
    whole_s = max(60.0, (end - begin).total_seconds())
    x = _scale(0.0, whole_s, LEFT, WIDTH - RIGHT)

    def at(moment: datetime) -> float:
        return x(min(max(0.0, (moment - begin).total_seconds()), whole_s))

    bars = []
    for row, span in enumerate(spans):
        left, right = at(span.begin), at(span.until or end)
        width = max(SHORTEST_BAR, right - left)
        lost = min(width, span.lost_s / whole_s * (WIDTH - LEFT - RIGHT))
        warned = at(span.warned_at) if span.warned_at is not None else None
        bars.append(Bar(span.label, span.style, left, TOP + row * ROW, width, lost, warned, tuple(at(save) for save in span.saves)))
    step = next((each for each in _TICK_S if whole_s / each <= 7), _TICK_S[-1])
    shown = tuple(Tick(x(float(s)), elapsed(timedelta(seconds=s))) for s in range(0, int(whole_s) + 1, step))
    return TimeLine(tuple(bars), shown, WIDTH, TOP + max(1, len(spans)) * ROW + BOTTOM)


def elapsed(time: timedelta) -> str:
    """``90m`` as ``1h30``; minutes alone under an hour, days over two."""
    minutes = int(time.total_seconds() // 60)
    if minutes < 60:
        return f"{minutes}m"
    if minutes < 2 * 1440:
        return f"{minutes // 60}h" + (f"{minutes % 60:02d}" if minutes % 60 else "")
    return f"{minutes // 1440}d" + (f"{minutes % 1440 // 60}h" if minutes % 1440 >= 60 else "")
