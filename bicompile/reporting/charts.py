"""The charts of a report, as SVG: plain shapes, no script, colours by class from the page's style.

Lengths are in CSS pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from bicompile.cost.report import VECTOR_PIPES
from bicompile.reporting.measured import Measured, Part

_WIDTH = 1060

_BAR, _ROW = 9, 24
_NAMES, _FIGURES = 240, 90

_HEIGHT = 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 20, 50

_DOT, _LETTER, _LINE = 5, 5.5, 12
"""Radius of a point; the most a letter of a label takes; from line to line."""

_BINARY_PEAK = 128 / 3
"""Binary multiply-accumulates of a cycle and pipe: EOR, CNT and an addition for 128."""

_FLOAT_PEAK = 4
"""Float multiply-accumulates of a cycle and pipe: one FMLA."""

_BYTES_A_CYCLE = 16
"""One vector loaded in a cycle, as the models have it."""


def cycles_chart(ours: Measured, twin: Measured | None, core: str) -> str:
    """A bar a layer, and one below it for the same layer of the float twin."""
    rows = _paired(ours, twin, core)
    largest = max((max(mine or 0, other or 0) for _, mine, other, _ in rows), default=1) or 1
    scale = (_WIDTH - _NAMES - _FIGURES) / largest
    shapes = []
    for number, (name, mine, other, kind) in enumerate(rows):
        y = number * _ROW
        shapes.append(_text(_NAMES - 8, y + 15, name, "end"))
        for offset, cycles, colour in ((2, mine, kind), (2 + _BAR + 1, other, "twin")):
            if cycles is None:
                continue
            length = cycles * scale
            shapes.append(
                f'<rect class="{colour}" x="{_NAMES}" y="{y + offset}" width="{length:.2f}" '
                f'height="{_BAR}"><title>{escape(name)}: {cycles} cycles</title></rect>'
            )
            shapes.append(
                _text(_NAMES + length + 5, y + offset + _BAR - 1, f"{cycles}", small=True)
            )
    return _svg(len(rows) * _ROW + 4, shapes, "modelled cycles by layer")


def _paired(
    ours: Measured, twin: Measured | None, core: str
) -> list[tuple[str, int | None, int | None, str]]:
    """(name, our cycles, the twin's, the class of our bar) of every layer; the rest in one row."""
    mine, other = _by_layer(ours, core), _by_layer(twin, core)
    kinds = {part.name: "binary" if part.binary else "float" for part in ours.parts}
    names = list(dict.fromkeys([*(n for n in mine if n), *(n for n in other if n), ""]))
    return [
        (name or "everything else", mine.get(name), other.get(name), kinds.get(name, "rest"))
        for name in names
    ]


def _by_layer(measured: Measured | None, core: str) -> dict[str, int]:
    """Modelled cycles by layer; those of no layer under an empty name."""
    spent: dict[str, int] = {}
    for part in measured.parts if measured is not None else ():
        name = part.name if part.is_layer else ""
        spent[name] = spent.get(name, 0) + part.cost.modelled_cycles[core]
    return spent


@dataclass(frozen=True)
class _Point:
    """Layers that lie on one spot of the roofline."""

    names: tuple[str, ...]
    products_a_byte: float
    products_a_cycle: float
    kind: str

    @property
    def label(self) -> str:
        more = len(self.names) - 1
        return self.names[0] + (f" and {more} more" if more else "")


def roofline(ours: Measured, twin: Measured | None, core: str) -> str:
    """Multiply-accumulates a cycle over multiply-accumulates a byte, both axes logarithmic.

    A byte is one of the constants and tensors that a layer's kernels read and write, each once.
    """
    points = [*_points(twin.parts if twin else (), core, "twin"), *_points(ours.parts, core)]
    pipes = VECTOR_PIPES[core]
    peaks = {"binary": _BINARY_PEAK * pipes, "float": float(_FLOAT_PEAK * pipes)}
    across = _Axis([p.products_a_byte for p in points] or [1.0], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([*(p.products_a_cycle for p in points), *peaks.values()], _HEIGHT - _BOTTOM, _TOP)
    shapes = [*_grid(across, up)]
    for kind, peak in peaks.items():
        shapes += _roof(kind, peak, across, up)
    labelled: set[tuple[str, float, float]] = set()
    taken = [(0.0, float(_WIDTH), up(peak) - 5) for peak in peaks.values()]
    for point in points:
        x, y = across(point.products_a_byte), up(point.products_a_cycle)
        taken.append((x - _DOT, x + _DOT, y + 4))
    for point in points:
        x, y = across(point.products_a_byte), up(point.products_a_cycle)
        said = (
            f"{point.label}: {point.products_a_cycle:.3g} a cycle, "
            f"{point.products_a_byte:.3g} a byte"
        )
        shapes.append(
            f'<circle class="{point.kind}" cx="{x:.1f}" cy="{y:.1f}" r="{_DOT}">'
            f"<title>{escape(said)}</title></circle>"
        )
        if (point.label, x, y) not in labelled:
            labelled.add((point.label, x, y))
            shapes.append(_label(taken, x, y + 4, point.label))
    return _svg(_HEIGHT, shapes, "roofline")


def _roof(kind: str, peak: float, across: "_Axis", up: "_Axis") -> Iterable[str]:
    """What a core can do: a line up to where loads are no limit, then the peak."""
    bend = min(max(peak / _BYTES_A_CYCLE, across.low), across.high)
    places = [(x, min(peak, x * _BYTES_A_CYCLE)) for x in (across.low, bend, across.high)]
    line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in places)
    yield f'<polyline class="roof {kind}-roof" points="{line}"/>'
    said = f"{peak:.3g} {kind} multiply-accumulates a cycle"
    yield _text(_WIDTH - _RIGHT, up(peak) - 5, said, "end", small=True)


def _points(parts: Iterable[Part], core: str, kind: str = "") -> list[_Point]:
    spots: dict[tuple[float, float, str], list[str]] = {}
    for part in parts:
        cycles = part.cost.modelled_cycles[core]
        bytes_ = part.constant_bytes + part.moved_bytes
        if cycles and bytes_ and part.multiply_accumulates:
            spot = part.multiply_accumulates / bytes_, part.multiply_accumulates / cycles
            own = kind or ("binary" if part.binary else "float")
            spots.setdefault((*spot, own), []).append(part.name)
    return [_Point(tuple(names), x, y, own) for (x, y, own), names in spots.items()]


class _Axis:
    """A logarithmic axis with room around some values."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        self.low, self.high = min(values) / 2, max(values) * 2
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        share = log10(value / self.low) / log10(self.high / self.low)
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """1, 2 and 5 of every decade."""
        decades = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        marks = [step * 10.0**power for power in decades for step in (1, 2, 5)]
        return [mark for mark in marks if self.low <= mark <= self.high]


def _label(taken: list[tuple[float, float, float]], x: float, y: float, said: str) -> str:
    """A label beside a point, on no other one; `taken` has (left, right, y) of what is there."""
    length = _LETTER * len(said)
    is_left = x + 8 + length > _WIDTH
    left = x - 8 - length if is_left else x + 8
    for step in range(2 * len(taken) + 1):
        at = y + (step + 1) // 2 * (_LINE if step % 2 else -_LINE)
        if all(
            left + length < begin or end < left or abs(at - other) >= _LINE
            for begin, end, other in taken
        ):
            break
    taken.append((left, left + length, at))
    return _text(x - 8 if is_left else x + 8, at, said, "end" if is_left else "start", small=True)


def _grid(across: _Axis, up: _Axis) -> Iterable[str]:
    bottom = _HEIGHT - _BOTTOM
    for x in across.ticks():
        yield f'<path class="grid" d="M{across(x):.1f} {_TOP}V{bottom}"/>'
        yield _text(across(x), bottom + 16, f"{x:g}", "middle", small=True)
    for y in up.ticks():
        yield f'<path class="grid" d="M{_LEFT} {up(y):.1f}H{_WIDTH - _RIGHT}"/>'
        yield _text(_LEFT - 6, up(y) + 4, f"{y:g}", "end", small=True)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield _text(middle, _HEIGHT - 12, "multiply-accumulates a byte", "middle")
    yield _text(_LEFT, _TOP - 6, "multiply-accumulates a modelled cycle")


def _text(x: float, y: float, said: str, anchor: str = "start", *, small: bool = False) -> str:
    kind = ' class="small"' if small else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text{kind} {place}>{escape(said)}</text>"


def _svg(height: int, shapes: Iterable[str], title: str) -> str:
    inside = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{title}">\n{inside}\n</svg>'
    )
