"""The geometry of a stacked column chart, which templates draw as SVG: pure, in units of its view box."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 1000, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 6, 14, 30
LEAST = 1e-9  # what is less is nothing: an amount of hours that small is an error of rounding
MOST_TONES = 7  # colours that can be told apart; the rest is one line, "others"
_TICKS = 4
_MARKS = 9
_GAP = 0.16  # of a column


@dataclass(frozen=True, kw_only=True)
class Series:
    name: str
    amounts: Sequence[float]
    total: float
    tone: int  # of MOST_TONES; MOST_TONES itself is that of "others"


@dataclass(frozen=True, kw_only=True)
class Piece:
    y: float
    height: float
    tone: int


@dataclass(frozen=True, kw_only=True)
class Column:
    """`x` and `width` of what is drawn; `from_x` and `step` of the whole of what belongs to it."""

    x: float
    width: float
    from_x: float
    step: float
    title: str
    total: float
    pieces: list[Piece]


@dataclass(frozen=True, kw_only=True)
class Chart:
    columns: list[Column]
    ticks: list[tuple[float, str]]  # y, and the amount there
    marks: list[tuple[float, str]]  # x, and the time there
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    floor: int = HEIGHT - BOTTOM
    right: int = WIDTH - RIGHT


def gathered(lines: Sequence[tuple[str, Sequence[float], float]]) -> list[Series]:
    """Of lines in order, the first ones each by itself and the others together."""
    alone = sum(tone_of(place, len(lines)) < MOST_TONES for place in range(len(lines)))
    found = [
        Series(name=name, amounts=amounts, total=total, tone=tone) for tone, (name, amounts, total) in enumerate(lines[:alone])
    ]  # fmt: skip
    rest = lines[alone:]
    if rest:
        amounts = [sum(each) for each in zip(*(amounts for _, amounts, _ in rest), strict=True)]
        name = f"{len(rest)} others"
        found.append(Series(name=name, amounts=amounts, total=sum(total for _, _, total in rest), tone=MOST_TONES))
    return found


def tone_of(place: int, count: int) -> int:
    """The colour of the line at `place` of `count`."""
    return place if count <= MOST_TONES or place < MOST_TONES - 1 else MOST_TONES


def stacked(series: Sequence[Series], titles: Sequence[str], marks: Sequence[str | None]) -> Chart:
    """One column for each title; `marks`: what stands under it, if anything."""
    totals = [sum(each.amounts[index] for each in series) for index in range(len(titles))]
    step_up, top = scale(max(totals, default=0.0))
    step = (WIDTH - LEFT - RIGHT) / max(1, len(titles))
    floor = HEIGHT - BOTTOM
    up = (floor - TOP) / top
    columns = []
    for index, title in enumerate(titles):
        begin, y, pieces = LEFT + index * step, float(floor), []
        for each in series:
            height = each.amounts[index] * up
            if height > 0:
                y -= height
                pieces.append(Piece(y=round(y, 2), height=round(height, 2), tone=each.tone))
        columns.append(
            Column(
                x=round(begin + step * _GAP / 2, 2), width=round(step * (1 - _GAP), 2), from_x=round(begin, 2), step=round(step, 2),
                title=title, total=totals[index], pieces=pieces,
            )
        )  # fmt: skip
    counts = range(round(top / step_up) + 1)
    return Chart(
        columns=columns,
        ticks=[(round(floor - count * step_up * up, 2), f"{count * step_up:g}") for count in counts],
        marks=[(round(LEFT + index * step, 2), mark) for index, mark in _few(marks)],
    )


def scale(most: float) -> tuple[float, float]:
    """The step between two lines (1, 2 or 5 times a power of ten), and the top, a whole number of steps from `most` up."""
    if not most > LEAST:
        return 1.0, 1.0
    rough = most / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return step, step * math.ceil(most / step - 1e-9)


def _few(marks: Sequence[str | None]) -> list[tuple[int, str]]:
    """As many as have room side by side, evenly."""
    there = [(index, mark) for index, mark in enumerate(marks) if mark is not None]
    return there[:: max(1, math.ceil(len(there) / _MARKS))]
