"""The float network, compiled as the binary one is, beside it: `python .../float_baseline.py`.

First every shape of float product in the network against its floor: the multiply-adds of four
products that it needs. Then both networks whole, at every width. The float network of a width is
the zoo's float twin with as many blocks as the width has: what it costs does not depend on its
weights. Instructions are counted by the emulator, cycles modelled (docs/cost-model.md).

    python tests/benchmarks/float_baseline.py [--core NAME ...]
"""

import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import onnx
from host_speed import BLOCKS, NETWORK, float_network

from bicompile.artifact import Executable
from bicompile.cost.report import MODELS, measure, model_source, sample_of
from bicompile.float_workloads import float_layer
from bicompile.pipeline import compile_model
from bicompile.targets import find_target

sys.path.insert(0, str(Path(__file__).parents[1]))

from kernel_runs import built

Layer = tuple[str, tuple[int, int, int], int, int, str]
"""A name; the image; the kernel's side, where the stride is 2 if that is not 1; outputs; bend."""

LAYERS: tuple[Layer, ...] = (
    ("front, 5x5, stride 2", (20, 20, 16), 5, 32, "prelu"),
    ("linear", (1, 8, 256), 1, 128, "prelu"),
    ("expand", (1, 8, 128), 1, 256, "prelu"),
    ("project", (1, 8, 256), 1, 128, "prelu"),
    ("classifier", (1, 1, 1024), 1, 12, ""),
)

Cost = tuple[int, ...]
"""Instructions, then cycles by core."""


def total(executable: Executable, cores: list[str], prefix: str = "") -> Cost:
    """What the functions whose names begin in one way cost together."""
    rows = measure(executable, sample_of(executable), cores)
    rows = [row for row in rows if row.name.startswith(prefix)]
    cycles = [sum(row.modelled_cycles[core] for row in rows) for core in cores]
    return sum(row.instructions for row in rows), *cycles


def product(layer: Layer, cores: list[str]) -> tuple[int, Cost]:
    """The floor of one float product, and what its kernel costs."""
    _, image, side, outputs, bend = layer
    stride = 2 if side > 1 else 1
    rows, columns = ((image[axis] - side) // stride + 1 for axis in (0, 1))
    nest = float_layer(
        image,
        (side, side),
        (rows, columns, outputs),
        strides=(stride, stride),
        dilations=(1, 1),
        bend=bend,
        residual=layer[0] == "project",
    )
    operands = [np.zeros([int(n) for n in p.ty.shape], np.float32) for p in nest.params[:-1]]
    with built([(nest, operands)]) as (executable, _, _):
        cost = total(executable, cores, "float_")
    return rows * columns * side * side * image[2] * outputs // 4, cost


def networks(width: int, cores: list[str], folder: Path) -> tuple[Cost, Cost]:
    """The binary and the float network of a width."""
    target = find_target("cortex-a53")
    binary = compile_model(NETWORK, target, folder / "binary", widths=(width,), check=False)
    onnx.save(float_network(BLOCKS[width]), folder / "float.onnx")
    twin = compile_model(str(folder / "float.onnx"), target, folder / "float", check=False)
    return total(binary.artifact.executable, cores), total(twin.artifact.executable, cores)


def main() -> None:
    """Print both tables."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--core", action="append", choices=MODELS)
    cores = parser.parse_args().core or list(MODELS)[:1]
    heads = ["instructions", *cores]
    print(f"{'float product':24}{'multiply-adds':>14}" + "".join(f"{h:>24}" for h in heads))
    for layer in LAYERS:
        floor, cost = product(layer, cores)
        cells = "".join(f"{each:>14} {each / floor:>5.2f} times" for each in cost)
        print(f"{layer[0]:24}{floor:>14}{cells}")
    print(f"\n{'binary network':15}" + "".join(f"{h:>46}" for h in heads))
    full: Cost = ()
    for width in range(len(BLOCKS)):
        with tempfile.TemporaryDirectory() as folder:
            binary, twin = networks(width, cores, Path(folder))
        full = full or twin
        cells = (
            f"{ours:>14}, float {other:>8} {other / ours:>5.2f} times {largest / ours:>5.2f} times"
            for ours, other, largest in zip(binary, twin, full, strict=True)
        )
        print(f"{f'width {width}':15}" + "".join(cells), flush=True)
    print(
        "times: the float network of the same blocks, then that of all blocks, over the binary one"
    )
    for core in cores:
        print(f"{core}: cycles {model_source(core)}")


if __name__ == "__main__":
    main()
