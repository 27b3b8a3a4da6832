"""Our schedules and the hand kernel, on the binary matrix products of a model or any shapes.

Every kernel computes the same: float32 dot products of packed rows, weights laid out beforehand.
What it costs is all that it runs, without the entry that calls it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bicompile.artifact import Executable
from bicompile.calls import describe_calls
from bicompile.cost.report import Row, observe
from bicompile.devices import open_device
from bicompile.errors import UserError
from bicompile.explain import explain
from bicompile.hand_kernel import build_hand_kernel
from bicompile.load import load_model
from bicompile.lower import lower
from bicompile.machines import Machine
from bicompile.passes.sign_of_zero import SignOfZero
from bicompile.product import Product, build_product, product_program
from bicompile.program import Program
from bicompile.records import Records, apply_records
from bicompile.rewriting import run_passes
from bicompile.targets import Target
from bicompile.timing import Seconds, time_in_turns
from bicompile.zoo import onnx_file

HAND, DEFAULT, TUNED = "hand", "default", "tuned"

_MOST_DIGITS = 12  # a side of so many is too large, and Python reads no number of thousands


@dataclass(frozen=True)
class Compared:
    """One kernel on one shape.

    Attributes:
        kernel: "hand", "default" or "tuned".
        cost: what it ran on the emulator.
        exact: whether every result is numpy's, bit for bit.
        ratios: its modelled cycles over those of the hand kernel, by core.
        seconds: on the device, if one was asked for and runs this kernel.
    """

    kernel: str
    cost: Row
    exact: bool
    ratios: Mapping[str, float]
    seconds: Seconds | None = None


@dataclass(frozen=True)
class Shape:
    """One product, and what every kernel makes of it.

    Attributes:
        product: K, M, N.
        layers: those of the model that compute it; empty for a shape that was given.
        kernels: the hand kernel first.
        untuned: why none of them is tuned, where records were given.
    """

    product: Product
    layers: tuple[str, ...]
    kernels: tuple[Compared, ...]
    untuned: str = ""


@dataclass(frozen=True)
class Wanted:
    """Products to compare, each with its layers, and the binary layers that are none."""

    products: Mapping[Product, tuple[str, ...]]
    left_out: tuple[str, ...] = field(default=())


def parse_shapes(texts: Sequence[str]) -> Wanted:
    """Shapes as K,M,N; raises UserError for what is none and for what is too large."""
    products: dict[Product, tuple[str, ...]] = {}
    for text in texts:
        parts = text.split(",")
        if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
            raise UserError(
                f"{text!r} is no shape: give bits, outputs and columns as K,M,N, such as 128,256,8"
            )
        product = Product(*(int(part[:_MOST_DIGITS]) for part in map(str.strip, parts)))
        if min(product.bits, product.outputs, product.columns) == 0:
            raise UserError(f"the shape {text} has a side of 0: K, M and N are at least 1")
        product.check()
        products[product] = ()
    return Wanted(products)


def products_of(
    source: str, *, width: int | None = None, sign_of_zero: SignOfZero = "strict"
) -> Wanted:
    """The distinct binary matrix products of a model (see zoo.onnx_file), in its order.

    Both planes of a layer count as columns. Raises UserError for a model that has none.
    """
    with onnx_file(source, width) as (path, name):
        traced = load_model(path)
    lowered = run_passes(traced, check=False, sign_of_zero=sign_of_zero)
    explanation = explain(name, traced, lowered)
    layers: dict[Product, list[str]] = {}
    for call in describe_calls(lower(lowered), lowered, explanation):
        if call.product is not None:
            layers.setdefault(Product(*call.product), []).append(call.layer or call.node)
    named = {layer for of_product in layers.values() for layer in of_product}
    left_out = [layer.name for layer in explanation.layers if layer.binary]
    left_out = [layer for layer in left_out if layer not in named]
    if not layers:
        why = f"; {left_out[0]} is binary but no matrix product" if left_out else ""
        raise UserError(
            f"{name} has no binary matrix product to compare{why}: `bicompile explain` says what "
            "its layers become, --shapes K,M,N takes any shape"
        )
    for product in layers:
        product.check()
    return Wanted({p: tuple(of_product) for p, of_product in layers.items()}, tuple(left_out))


def compare(
    wanted: Wanted,
    target: Target,
    cores: Sequence[str],
    machine: Machine | None = None,
    records: Sequence[Records] = (),
) -> list[Shape]:
    """Run every kernel on every product on the emulator, and with `machine` time it there too.

    The tuned kernel has the decisions of the first of `records` that fit. Raises UserError for a
    target that is not arm64, and for a core without a model.
    """
    if target.arch != "aarch64":
        raise UserError(
            f"kernels for {target.name} ({target.arch}) cannot be emulated: give an arm64 target "
            "such as cortex-a53; --device host times them on this machine"
        )
    shapes = []
    with tempfile.TemporaryDirectory() as name:
        emulated = _Builder(target, Path(name), records)
        timed = None if machine is None else _Builder(machine.target, Path(name), records)
        for product, layers in wanted.products.items():
            kernels = _costs(product, emulated, cores)
            untuned = emulated.untuned if records else ""
            if machine is not None and timed is not None:
                seconds = _times(product, timed, machine)
                kernels = [replace(each, seconds=seconds.get(each.kernel)) for each in kernels]
            shapes.append(Shape(product, layers, tuple(kernels), untuned))
    return shapes


class _Builder:
    """Builds every kernel that there is for a target.

    Attributes:
        untuned: why there is no tuned one for the last product.
    """

    def __init__(self, target: Target, folder: Path, records: Sequence[Records]) -> None:
        self.untuned = ""
        self._target = target
        self._records = records
        self._folder = folder / target.name
        self._folder.mkdir(exist_ok=True)
        is_arm64 = target.arch == "aarch64"
        self._hand = build_hand_kernel(self._folder, target) if is_arm64 else None

    def programs(
        self, product: Product, rows: NDArray[np.uint8], weights: NDArray[np.uint8]
    ) -> dict[str, tuple[Executable, NDArray[np.float32]]]:
        """Each with its input; good until they are built for the next product."""
        programs = {}
        if self._hand is not None:
            programs[HAND] = self._hand.call(rows, weights, product.bits)
        program = product_program(product, weights)
        obj = self._folder / f"{DEFAULT}.o"
        programs[DEFAULT] = build_product(product, program, rows, self._target, obj)
        tuned = self._tuned(program)
        if tuned is not None:
            obj = self._folder / f"{TUNED}.o"
            programs[TUNED] = build_product(product, tuned, rows, self._target, obj)
        return programs

    def _tuned(self, program: Program) -> Program | None:
        self.untuned = ""
        why: list[str] = []
        for records in self._records:
            applied = apply_records(program, self._target, records)
            if applied.tuned:
                return applied.program
            why += applied.left_out.values()
        self.untuned = ", ".join(dict.fromkeys(why))
        return None


def _costs(product: Product, builder: _Builder, cores: Sequence[str]) -> list[Compared]:
    rows, weights = product.operands()
    expected = product.meaning(rows, weights)
    found: list[Compared] = []
    for kernel, (executable, x) in builder.programs(product, rows, weights).items():
        cost = observe(executable, x, cores).total(kernel, without_entry=True)
        with open_device("emulator").load(executable) as loaded:
            exact = np.array_equal(loaded.run(x[None]).outputs[0], expected)
        hand = found[0].cost if found else cost
        ratios = {c: cost.modelled_cycles[c] / hand.modelled_cycles[c] for c in cores}
        found.append(Compared(kernel, replace(cost, units=product.units), exact, ratios))
    return found


def _times(product: Product, builder: _Builder, machine: Machine) -> dict[str, Seconds]:
    rows, weights = product.operands()
    programs = builder.programs(product, rows, weights)
    with machine.timers(programs) as timers:
        return time_in_turns(timers)
