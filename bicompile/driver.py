"""The C side of an object: the entries that call the kernels in order, and their header."""

import re
from collections.abc import Collection, Mapping, Sequence
from math import gcd, prod

import numpy as np

from bicompile import mathematics
from bicompile.artifact import TensorSpec
from bicompile.branches import Branch
from bicompile.cases import CONSTANTS, Argument, PlacedCall, Run, find_cases
from bicompile.memory import ALIGNMENT, align

ENTRY = "model_run"
CHECKED_ENTRY = "model_run_checked"

CALLER_ALIGNMENT = 16
"""Bytes, of input and output."""

ERRORS = {"NO_SUCH_WIDTH": 1, "NULL_POINTER": 2, "MISALIGNED": 3, "WORKSPACE_TOO_SMALL": 4}
"""What the checked entry returns, by its name in the header after MODEL_."""

# LLVM turns some loops into calls of these. A freestanding object brings its own, as local symbols.
# The last line overlaps with the one before it; what is shorter than a line is rare.
MEMORY_FUNCTIONS = {
    "memcpy": """
typedef unsigned char line_to_copy __attribute__((vector_size(64), aligned(1)));
static void *copy(void *restrict, const void *restrict, __SIZE_TYPE__) __asm__("memcpy");
__attribute__((used, no_builtin)) static void *
copy(void *restrict to, const void *restrict from, __SIZE_TYPE__ size) {
  char *at = to, *const end = at + size;
  const char *read = from;
  if (size >= 64) {
    const char *const last = read + size - 64;
#pragma clang loop unroll(disable)
    for (; end - at > 64; at += 64, read += 64) *(line_to_copy *)at = *(const line_to_copy *)read;
    *(line_to_copy *)(end - 64) = *(const line_to_copy *)last;
    return to;
  }
#pragma clang loop vectorize(disable) unroll(disable)
  while (at < end) *at++ = *read++;
  return to;
}
""",
    "memset": """
typedef unsigned char line_to_fill __attribute__((vector_size(64), aligned(1)));
static void *fill(void *, int, __SIZE_TYPE__) __asm__("memset");
__attribute__((used, no_builtin)) static void *fill(void *to, int byte, __SIZE_TYPE__ size) {
  const line_to_fill line = (line_to_fill){0} + (unsigned char)byte;
  char *at = to, *const end = at + size;
  if (size >= 64) {
#pragma clang loop unroll(disable)
    for (; end - at > 64; at += 64) *(line_to_fill *)at = line;
    *(line_to_fill *)(end - 64) = line;
    return to;
  }
#pragma clang loop vectorize(disable) unroll(disable)
  while (at < end) *at++ = (char)byte;
  return to;
}
""",
}


def constant_offsets(constants: Mapping[str, np.ndarray]) -> tuple[dict[str, int], int]:
    """Byte offset of every constant in the object's table, and the size of the table."""
    offsets, end = {}, 0
    for name in sorted(constants, key=lambda name: -constants[name].nbytes):
        size = constants[name].nbytes
        step = min(ALIGNMENT, 1 << max(size - 1, 0).bit_length())  # what reads it whole wants that
        end = -(-end // step) * step
        offsets[name] = end
        end += size
    return offsets, align(end)


def driver_source(
    branches: Sequence[Branch],
    memory_functions: Collection[str],
    mathematical_functions: Collection[str] = (),
) -> str:
    """The entries as C, with a line for every call of a case; buffers lie in the workspace.

    `memory_functions` names those of MEMORY_FUNCTIONS that kernels call, `mathematical_functions`
    those of mathematics.FUNCTIONS.
    """
    constants, _ = constant_offsets(
        {k: v for b in branches for k, v in b.program.constants.items()}
    )
    parameters = {
        call.kernel: ", ".join(["const void *"] * len(call.inputs) + ["void *"] * len(call.outputs))
        for branch in branches
        for call in branch.program.calls
    }
    takes, gives = entry_parameters(branches[0].width is not None)
    return "\n".join(
        [
            "#pragma GCC visibility push(hidden)",
            "extern const unsigned char constants[];",
            *(f"void {kernel}({types});" for kernel, types in parameters.items()),
            "#pragma GCC visibility pop",
            # Before the entry, so that a kernel's call does not depend on the entry's length.
            *(MEMORY_FUNCTIONS[name] for name in sorted(memory_functions)),
            mathematics.source(mathematical_functions),
            # Not inlined, or the checked entry would be a second one.
            f"__attribute__((noinline)) void {ENTRY}({takes}) {{",
            *_body(branches, constants),
            "}",
            *_checked_entry(branches, takes, gives),
            "",
        ]
    )


def entry_parameters(has_width: bool) -> tuple[str, str]:
    """The parameters of the entry in C, and the same as arguments."""
    names = ("width", "input", "output", "workspace")
    types = ("int ", "const float *", "float *", "void *")
    first = 0 if has_width else 1
    declared = [kind + name for kind, name in zip(types, names, strict=True)]
    return ", ".join(declared[first:]), ", ".join(names[first:])


def _runs(branch: Branch, constants: Mapping[str, int]) -> list[Run]:
    """The calls of a branch; those that spread constants out are in one run with their reader."""
    program, plan = branch.program, branch.plan

    def argument(name: str) -> Argument:
        if name in program.constants:
            return Argument(CONSTANTS, constants[name])
        if name in (program.input, program.output):
            return Argument("input" if name == program.input else "output", 0)
        return Argument("work", plan.offsets[name])

    runs: list[Run] = []
    waiting: Run = ()
    for call in program.calls:
        names = (*call.inputs, *call.outputs)
        waiting += (PlacedCall(call.kernel, tuple(map(argument, names))),)
        if not program.unpacked.keys() & set(call.outputs):
            runs.append(waiting)
            waiting = ()
    return runs


def _body(branches: Sequence[Branch], constants: Mapping[str, int]) -> list[str]:
    """The lines of the entry: the calls of one case, or a loop over the steps of a branch."""
    cases, steps = find_cases([_runs(branch, constants) for branch in branches])
    head = ["  unsigned char *const work = workspace;", "  (void)work;"]
    if len(branches) == len(cases) == len(steps[0]) == 1:
        return [*head, *_lines(cases[0])]
    offsets = [offset for branch in steps for step in branch for offset in step.parameters]
    unit = gcd(*offsets) or 1
    widths = [branch.width or 0 for branch in branches]
    first, count = min(widths), max(widths) - min(widths) + 1
    end = len(cases)
    # Where the steps of every width start, for one between them at an end; then the steps.
    words = [count] * count + [end]
    for width, own in zip(widths, steps, strict=True):
        words[width - first] = len(words)
        for step in own:
            words += [step.case, *(offset // unit for offset in step.parameters)]
        words.append(end)
    kind = "short" if max(words) < 2**16 else "int"
    chosen = "0u" if branches[0].width is None else f"width - {first}u"
    return [
        *head,
        f"  static const unsigned {kind} steps[] = {{{', '.join(map(str, words))}}};",
        f"  if ({chosen} >= {count}) return;",
        f"  const unsigned {kind} *next = steps + steps[{chosen}];",
        "  for (;;) switch (*next++) {",
        *(line for number, case in enumerate(cases) for line in _case(number, case, unit)),
        "    default: return;",
        "  }",
    ]


def _case(number: int, case: Run, unit: int) -> list[str]:
    used = {argument.parameter for call in case for argument in call.arguments} - {None}
    return [
        f"    case {number}:",
        *_lines(case, unit),
        f"      next += {len(used)};",
        "      break;",
    ]


def _lines(case: Run, unit: int = 1) -> list[str]:
    """A line for every call; `unit` is of what `next` points to, the parameters of a step."""

    def text(argument: Argument) -> str:
        terms = [argument.base]
        if argument.parameter is not None:
            terms.append(f"{unit} * next[{argument.parameter}]")
        if argument.offset:
            terms.append(str(argument.offset))
        return " + ".join(terms)

    return [f"      {call.kernel}({', '.join(map(text, call.arguments))});" for call in case]


def _checked_entry(branches: Sequence[Branch], takes: str, gives: str) -> list[str]:
    """The entry behind a look at its arguments."""
    needed = workspace_bytes(branches)
    widths = [branch.width for branch in branches if branch.width is not None]
    known = " && ".join(f"width != {width}" for width in widths)
    some = "!input || !output" + (" || !workspace" if needed else "")
    bits = "(__UINTPTR_TYPE__)"
    aligned = f"({bits}input | {bits}output) % {CALLER_ALIGNMENT} || {bits}workspace % {ALIGNMENT}"
    checks = [
        (known, "NO_SUCH_WIDTH"),
        (some, "NULL_POINTER"),
        (aligned, "MISALIGNED"),
        (f"workspace_bytes < {needed}" if needed else "", "WORKSPACE_TOO_SMALL"),
    ]
    return [
        f"int {CHECKED_ENTRY}({takes}, __SIZE_TYPE__ workspace_bytes) {{",
        "  (void)workspace_bytes;",
        *(f"  if ({wrong}) return {ERRORS[name]};" for wrong, name in checks if wrong),
        f"  {ENTRY}({gives});",
        "  return 0;",
        "}",
    ]


def workspace_bytes(branches: Sequence[Branch]) -> int:
    """What the caller must give, whatever the width."""
    return max(branch.plan.workspace_bytes for branch in branches)


def _comment(text: str) -> str:
    """The text without what would end a comment, or make it longer."""
    return re.sub(r"[^\w .,:;/()\[\]-]", "_", text)


def header_source(
    entry_input: TensorSpec,
    entry_output: TensorSpec,
    workspace_bytes: int,
    labels: tuple[str, ...],
    widths: tuple[int, ...] = (),
) -> str:
    """The header a C program includes; `widths` where the entry takes one."""

    def tensor(spec: TensorSpec) -> str:
        return f"{_comment(spec.name)}: float32 ({', '.join(map(str, spec.shape))})"

    said_labels = f"\n * Output elements: {_comment(', '.join(labels))}." if labels else ""
    quoted = ", ".join(f'"{_comment(label)}"' for label in labels)
    labels_macro = f"\n#define MODEL_LABELS {{{quoted}}}" if labels else ""
    known = ", ".join(map(str, widths))
    said_width = (
        f" * width      one of {known}; with another one nothing is written\n" if widths else ""
    )
    takes, _ = entry_parameters(bool(widths))
    errors = "\n".join(f"#define MODEL_{name} {code}" for name, code in ERRORS.items())
    return f"""/* One network, compiled by bicompile: no runtime, no allocation, no state.
 *
{said_width} * input      {tensor(entry_input)}, row-major, {CALLER_ALIGNMENT}-byte aligned; read
 * output     {tensor(entry_output)}, the same; written
 * workspace  MODEL_WORKSPACE_BYTES bytes, {ALIGNMENT}-byte aligned; its content means nothing
 *
 * The three must not overlap.{said_labels}
 * Any number of threads may run at once, each with its own output and workspace.
 *
 * {CHECKED_ENTRY} first looks at its arguments; workspace_bytes is how many bytes there are.
 * It returns 0, or one of the numbers below, and then nothing was written.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stddef.h>

#define MODEL_INPUT_ELEMENTS {prod(entry_input.shape)}
#define MODEL_OUTPUT_ELEMENTS {prod(entry_output.shape)}
#define MODEL_WORKSPACE_BYTES {workspace_bytes}{labels_macro}

{errors}

#ifdef __cplusplus
extern "C" {{
#endif

void {ENTRY}({takes});
int {CHECKED_ENTRY}({takes}, size_t workspace_bytes);

#ifdef __cplusplus
}}
#endif

#endif
"""
