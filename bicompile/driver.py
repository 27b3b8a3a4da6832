"""The C side of an object: the entry that calls the kernels in order, and its header."""

import re
from collections.abc import Collection
from math import prod

from bicompile.artifact import TensorSpec
from bicompile.memory import Plan, align
from bicompile.program import Program

ENTRY = "model_run"

# LLVM turns some loops into calls of these. A freestanding object brings its own, as local symbols.
MEMORY_FUNCTIONS = {
    "memcpy": """
typedef unsigned char bytes_to_copy __attribute__((vector_size(16), aligned(1)));
typedef unsigned char line_to_copy __attribute__((vector_size(64), aligned(1)));
static void *copy(void *restrict, const void *restrict, __SIZE_TYPE__) __asm__("memcpy");
__attribute__((used, no_builtin)) static void *
copy(void *restrict to, const void *restrict from, __SIZE_TYPE__ size) {
  __SIZE_TYPE__ i = 0;
  for (; i + 64 <= size; i += 64)
    *(line_to_copy *)((char *)to + i) = *(const line_to_copy *)((const char *)from + i);
  for (; i + 16 <= size; i += 16)
    *(bytes_to_copy *)((char *)to + i) = *(const bytes_to_copy *)((const char *)from + i);
  for (; i < size; i++) ((char *)to)[i] = ((const char *)from)[i];
  return to;
}
""",
    "memset": """
typedef unsigned char bytes_to_fill __attribute__((vector_size(16), aligned(1)));
typedef unsigned char line_to_fill __attribute__((vector_size(64), aligned(1)));
static void *fill(void *, int, __SIZE_TYPE__) __asm__("memset");
__attribute__((used, no_builtin)) static void *fill(void *to, int byte, __SIZE_TYPE__ size) {
  const bytes_to_fill bytes = (bytes_to_fill){0} + (unsigned char)byte;
  const line_to_fill line = (line_to_fill){0} + (unsigned char)byte;
  __SIZE_TYPE__ i = 0;
  for (; i + 64 <= size; i += 64) *(line_to_fill *)((char *)to + i) = line;
  for (; i + 16 <= size; i += 16) *(bytes_to_fill *)((char *)to + i) = bytes;
  for (; i < size; i++) ((char *)to)[i] = (char)byte;
  return to;
}
""",
}


def constant_offsets(program: Program) -> tuple[dict[str, int], int]:
    """Byte offset of every constant in the object's table, and the size of the table."""
    offsets, end = {}, 0
    for name, array in program.constants.items():
        offsets[name] = end
        end += align(array.nbytes)
    return offsets, end


def driver_source(program: Program, plan: Plan, memory_functions: Collection[str]) -> str:
    """The entry as C: one line a call, buffers as offsets into the workspace.

    `memory_functions` names those of MEMORY_FUNCTIONS that kernels call.
    """
    constants, _ = constant_offsets(program)

    def argument(name: str) -> str:
        if name == program.input:
            return "input"
        if name == program.output:
            return "output"
        if name in program.constants:
            return f"constants + {constants[name]}"
        return f"work + {plan.offsets[name]}"

    parameters = {
        call.kernel: ", ".join(["const void *"] * len(call.inputs) + ["void *"] * len(call.outputs))
        for call in program.calls
    }
    declarations = [f"void {kernel}({types});" for kernel, types in parameters.items()]
    calls = [
        f"  {call.kernel}({', '.join(map(argument, (*call.inputs, *call.outputs)))});"
        + (f"  // {_comment(call.layer)}" if call.layer else "")
        for call in program.calls
    ]
    return "\n".join(
        [
            "#pragma GCC visibility push(hidden)",
            "extern const unsigned char constants[];",
            *declarations,
            "#pragma GCC visibility pop",
            # Before the entry, so that a kernel's call does not depend on the entry's length.
            *(MEMORY_FUNCTIONS[name] for name in sorted(memory_functions)),
            f"void {ENTRY}(const float *input, float *output, void *workspace) {{",
            "  unsigned char *const work = workspace;",
            *calls,
            "  (void)work;",
            "}",
            "",
        ]
    )


def _comment(text: str) -> str:
    """The text without what would end a comment, or make it longer."""
    return re.sub(r"[^\w .,:;/()\[\]-]", "_", text)


def header_source(
    entry_input: TensorSpec, entry_output: TensorSpec, workspace_bytes: int, labels: tuple[str, ...]
) -> str:
    """The header a C program includes."""

    def tensor(spec: TensorSpec) -> str:
        return f"{_comment(spec.name)}: float32 ({', '.join(map(str, spec.shape))})"

    said_labels = f"\n * Output elements: {_comment(', '.join(labels))}." if labels else ""
    quoted = ", ".join(f'"{_comment(label)}"' for label in labels)
    labels_macro = f"\n#define MODEL_LABELS {{{quoted}}}" if labels else ""
    return f"""/* One network, compiled by bicompile: no runtime, no allocation, no state.
 *
 * input      {tensor(entry_input)}, row-major, 16-byte aligned; read
 * output     {tensor(entry_output)}, the same; written
 * workspace  MODEL_WORKSPACE_BYTES bytes, 64-byte aligned; its content means nothing
 *
 * The three must not overlap.{said_labels}
 * Any number of threads may run at once, each with its own output and workspace.
 */
#ifndef MODEL_H
#define MODEL_H

#define MODEL_INPUT_ELEMENTS {prod(entry_input.shape)}
#define MODEL_OUTPUT_ELEMENTS {prod(entry_output.shape)}
#define MODEL_WORKSPACE_BYTES {workspace_bytes}{labels_macro}

#ifdef __cplusplus
extern "C" {{
#endif

void {ENTRY}(const float *input, float *output, void *workspace);

#ifdef __cplusplus
}}
#endif

#endif
"""
