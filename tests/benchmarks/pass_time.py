"""How the time of the passes grows with the layers: `python tests/benchmarks/pass_time.py`.

Repeats the last block of the zoo's network and prints the seconds of processor time that every pass
takes. Twice the blocks should take twice the time; the last column says how many times as long the
longest network took per block as the shortest.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from bicompile.load import load_model
from bicompile.passes import PASSES
from bicompile.pipeline import run_passes
from bicompile.zoo import onnx_file

_BLOCKS = (8, 32, 128)
_OF_THE_ZOO = 8


def repeated(model: onnx.ModelProto, blocks: int) -> onnx.ModelProto:
    """The zoo's network with copies of its last block after it, constants and all."""
    longer = onnx.ModelProto()
    longer.CopyFrom(model)
    own = f"/blocks/{_OF_THE_ZOO - 1}/"
    block = [node for node in model.graph.node if node.name.startswith(own)]
    made = {name for node in block for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    used = {name for node in block for name in node.input}
    (entry,) = used - made - constants.keys()
    (leave,) = [
        name
        for node in model.graph.node
        if not node.name.startswith(own)
        for name in node.input
        if name in made
    ]
    after = [node.name.startswith(own) for node in model.graph.node][::-1].index(True)
    nodes = list(longer.graph.node)
    tail = nodes[len(nodes) - after :]
    latest = leave
    for number in range(_OF_THE_ZOO, blocks):
        names = {name: f"{name}/{number}" for name in made | (used & constants.keys())}
        names[entry] = latest
        for name in used & constants.keys():
            copied = longer.graph.initializer.add()
            copied.CopyFrom(constants[name])
            copied.name = names[name]
        for node in block:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"/blocks/{number}/{node.name.removeprefix(own)}"
            copy.input[:] = [names[name] for name in node.input]
            copy.output[:] = [names[name] for name in node.output]
            nodes.insert(len(nodes) - after, copy)
        latest = names[leave]
    for node in tail:
        node.input[:] = [latest if name == leave else name for name in node.input]
    del longer.graph.node[:], longer.graph.value_info[:]
    longer.graph.node.extend(nodes)
    return onnx.shape_inference.infer_shapes(longer, strict_mode=True, data_prop=True)


def seconds_of(model: onnx.ModelProto) -> dict[str, float]:
    """Processor time of every pass, and of the whole pipeline without and with its checks."""
    spent = {}
    for name, check in (("all, --no-check", False), ("all, --check", True)):
        start = time.process_time()
        run_passes(model, check=check)
        spent[name] = time.process_time() - start
    rewritten = ir.from_proto(model)
    for number, rewrite in enumerate(PASSES, start=1):
        start = time.process_time()
        rewrite(rewritten)
        spent[f"{number:02} {rewrite.__name__}"] = time.process_time() - start
    return spent


def main(blocks: Sequence[int]) -> None:
    """Print a line a pass."""
    with onnx_file("zoo:bifsmnv2-kws12", None) as (path, _):
        zoo = load_model(Path(path))
    columns = [seconds_of(repeated(zoo, count)) for count in blocks]
    print(f"{'seconds for so many blocks':28}" + "".join(f"{count:9}" for count in blocks))
    for name in columns[0]:
        spent = [column[name] for column in columns]
        growth = (spent[-1] / blocks[-1]) / (spent[0] / blocks[0])
        print(f"{name:28}" + "".join(f"{s:9.2f}" for s in spent) + f"   x {growth:.2f}")


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or _BLOCKS)
