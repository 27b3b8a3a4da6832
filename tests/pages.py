"""The pages in docs/ that are made: one of every pass, one of the domain's ops.

A pass's page is its module's docstring and its golden graphs, an op's section its docstring and
its body, so that no page says what the code does not.
"""

import ast
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from onnxscript.values import OnnxFunction

from bicompile import ops
from bicompile.passes import PASSES, Pass

GOLDENS = Path(__file__).parent / "passes" / "goldens"
_MOST_SHOWN = 16
_BEFORE, _AFTER = "-before.txt", "-after.txt"
_TIME = """## How long they take

`tests/benchmarks/pass_time.py` runs them on the zoo's network and on longer ones, made of its last
block. Seconds of processor time, x86-64 virtual machine:

| blocks | 8 | 32 | 128 |
| --- | --- | --- | --- |
| all passes | 1.07 | 3.8 | 16.1 |
| all passes, each checked in onnxruntime | 6.5 | 38 | 311 |

The passes take 0.95 times as long per block at 128 as at 8. The check grows faster: onnxruntime
takes 16 s to load the 128 blocks once, and does so after every pass.
"""


def pages() -> dict[str, str]:
    """Every made page: its path in docs/ and its text."""
    passes = {rewrite.__name__: rewrite for rewrite in PASSES}
    return {
        "ops.md": _ops_page(),
        "passes/README.md": _list_of_passes(),
        **{f"passes/{name}.md": _pass_page(rewrite) for name, rewrite in passes.items()},
    }


def pass_of(golden: Path) -> str:
    """The pass that a golden graph shows: files are named `PASS[-CASE]-before.txt` or `-after`."""
    return golden.name.partition("-")[0]


def _docstring(rewrite: Pass) -> str:
    return (sys.modules[rewrite.__module__].__doc__ or "").strip()


def _list_of_passes() -> str:
    laws = [(rewrite.__name__, _docstring(rewrite).partition("\n\n")[0]) for rewrite in PASSES]
    items = [
        f"{number}. [{name}]({name}.md): {' '.join(law.split())}"
        for number, (name, law) in enumerate(laws, start=1)
    ]
    return (
        "# The passes, in their order\n\n"
        "`bicompile compile --dump-ir DIR` writes the graph after each. A page is a pass's\n"
        "docstring and the graphs of its tests; `pytest --renew-goldens` makes them all anew.\n\n"
        + "\n".join(items)
        + "\n\n"
        + _TIME
    )


def _pass_page(rewrite: Pass) -> str:
    name = rewrite.__name__
    befores = sorted(path for path in GOLDENS.glob(f"*{_BEFORE}") if pass_of(path) == name)
    assert befores, (
        f"pass {name} has no golden graph: let a test in tests/passes/test_{name}.py give "
        f"golden('{name}-before', ...) and golden('{name}-after', ...) and renew the goldens"
    )
    sections = [f"# {name}\n\n{_docstring(rewrite)}\n"]
    for before in befores:
        stem = before.name.removesuffix(_BEFORE)
        case = stem.removeprefix(name).removeprefix("-").replace("-", " ")
        heading = f"## The graph before and after{': ' if case else ''}{case}"
        graphs = (before, before.with_name(f"{stem}{_AFTER}"))
        shown = "\n".join(f"```\n{path.read_text()}```\n" for path in graphs)
        sections.append(f"{heading}\n\n{shown}")
    return "\n".join(sections)


def _ops_page() -> str:
    law = (ops.__doc__ or "").strip()
    sections = [f"# The ops\n\n{law}\n", *map(_op_section, ops.FUNCTIONS)]
    return "\n".join(sections)


def _op_section(function: OnnxFunction) -> str:
    docstring = textwrap.dedent(f"    {function.function.__doc__}").strip()
    body = _without_docstring(function.source)
    module = sys.modules[function.function.__module__]
    constants = "".join(f"- `{name}` is {value}\n" for name, value in _constants(body, module))
    return f"## {function.name}\n\n{docstring}\n\n```python\n{body}\n```\n" + (
        f"\n{constants}" if constants else ""
    )


def _without_docstring(source: str) -> str:
    """A function from its `def` on, without what only Python or a linter reads."""
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.FunctionDef)
    quoted, first = definition.body[:2]
    lines = source.splitlines()
    head, rest = lines[definition.lineno - 1 : quoted.lineno - 1], lines[first.lineno - 1 :]
    return "\n".join(line.removesuffix("  # noqa: N802") for line in (*head, *rest))


def _constants(body: str, module: ModuleType) -> Iterator[tuple[str, str]]:
    """What the names in a body stand for that its module defines."""
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    for name in sorted(used & vars(module).keys()):
        value = vars(module)[name]
        if isinstance(value, onnx.TensorProto):
            numbers = onnx.numpy_helper.to_array(value)
            some = " ".join(map(str, numbers[:_MOST_SHOWN]))
            more = " …" if numbers.size > _MOST_SHOWN else ""
            yield name, f"{numbers.dtype}[{numbers.size}]: {some}{more}"
        elif isinstance(value, int):
            yield name, f"the type {np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value))}"
