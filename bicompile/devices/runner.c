// The main program around a compiled model for qemu-aarch64: arm64 Linux without a libc.
//
// stdin:  one byte (1: give the workspace back too), then inputs until the end.
// stdout: for every input the output, then the workspace if asked for.
//
// INPUT_BYTES, OUTPUT_BYTES, WORKSPACE_BYTES, OUTPUT_FILL, WORKSPACE_FILL and ENTRY are given by
// the compiler's command line, and WIDTH where the entry takes one. Every buffer ends where a page begins that cannot be touched.

#include "linux.h"

#ifdef WIDTH
void ENTRY(int width, const float *input, float *output, void *workspace);
#define RUN(...) ENTRY(WIDTH, __VA_ARGS__)
#else
void ENTRY(const float *input, float *output, void *workspace);
#define RUN ENTRY
#endif

static struct {
  unsigned char guard0[GUARD], input[PAGES(INPUT_BYTES)];
  unsigned char guard1[GUARD], output[PAGES(OUTPUT_BYTES)];
  unsigned char guard2[GUARD], workspace[PAGES(WORKSPACE_BYTES)];
  unsigned char guard3[GUARD];
} memory __attribute__((aligned(GUARD)));

FIRST_FUNCTION void _start(void) {
  unsigned char *guards[] = {memory.guard0, memory.guard1, memory.guard2, memory.guard3};
  unsigned char *input = PLACE(memory.input, INPUT_BYTES, 16);
  unsigned char *output = PLACE(memory.output, OUTPUT_BYTES, 16);
  unsigned char *workspace = PLACE(memory.workspace, WORKSPACE_BYTES, 64);
  unsigned char keep_workspace;

  for (int i = 0; i < 4; ++i) guard(guards[i]);
  if (transfer(SYS_READ, 0, &keep_workspace, 1) != 1) leave(1);
  while (transfer(SYS_READ, 0, input, INPUT_BYTES) == INPUT_BYTES) {
    fill(output, OUTPUT_BYTES, OUTPUT_FILL);
    fill(workspace, WORKSPACE_BYTES, WORKSPACE_FILL);
    RUN((const float *)input, (float *)output, workspace);
    transfer(SYS_WRITE, 1, output, OUTPUT_BYTES);
    if (keep_workspace) transfer(SYS_WRITE, 1, workspace, WORKSPACE_BYTES);
  }
  leave(0);
}
