// The main program that times a compiled model on this machine: Linux without a libc.
//
// stdin:  one input.
// stdout: its output, then eight bytes: the picoseconds of one run, the least of ROUNDS means.
//
// INPUT_BYTES, OUTPUT_BYTES, WORKSPACE_BYTES, OUTPUT_FILL and ENTRY are given by the compiler's
// command line. Every buffer ends where a page begins that cannot be touched.

#include "../devices/linux.h"

enum { ROUNDS = 9, ROUND_NANOSECONDS = 2000000 };

void ENTRY(const float *input, float *output, void *workspace);

static struct {
  unsigned char guard0[GUARD], input[PAGES(INPUT_BYTES)];
  unsigned char guard1[GUARD], output[PAGES(OUTPUT_BYTES)];
  unsigned char guard2[GUARD], workspace[PAGES(WORKSPACE_BYTES)];
  unsigned char guard3[GUARD];
} memory __attribute__((aligned(GUARD)));

static long now(void) {
  long time[2];  // seconds, nanoseconds
  system_call(SYS_CLOCK, 1, (long)time, 0);
  return time[0] * 1000000000 + time[1];
}

FIRST_FUNCTION void _start(void) {
  const float *input = (const float *)PLACE(memory.input, INPUT_BYTES, 16);
  float *output = (float *)PLACE(memory.output, OUTPUT_BYTES, 16);
  unsigned char *workspace = PLACE(memory.workspace, WORKSPACE_BYTES, 64);
  long runs = 1, taken = 0, least = 0;

  guard(memory.guard0);
  guard(memory.guard1);
  guard(memory.guard2);
  guard(memory.guard3);
  if (transfer(SYS_READ, 0, (unsigned char *)input, INPUT_BYTES) != INPUT_BYTES) leave(1);
  fill((unsigned char *)output, OUTPUT_BYTES, OUTPUT_FILL);
  ENTRY(input, output, workspace);
  transfer(SYS_WRITE, 1, (unsigned char *)output, OUTPUT_BYTES);
  for (int round = 0; round < ROUNDS; taken < ROUND_NANOSECONDS ? runs *= 2 : ++round) {
    long start = now();
    for (long run = 0; run < runs; ++run) ENTRY(input, output, workspace);
    taken = now() - start;
    if (taken < ROUND_NANOSECONDS) continue;
    long each = taken * 1000 / runs;
    if (least == 0 || each < least) least = each;
  }
  transfer(SYS_WRITE, 1, (unsigned char *)&least, sizeof least);
  leave(0);
}
