// The main program around a compiled model for qemu-aarch64: arm64 Linux without a libc.
//
// stdin:  one byte (1: give the workspace back too), then inputs until the end.
// stdout: for every input the output, then the workspace if asked for.
//
// INPUT_BYTES, OUTPUT_BYTES, WORKSPACE_BYTES, OUTPUT_FILL, WORKSPACE_FILL and ENTRY are given by
// the compiler's command line, and WIDTH where the entry takes one. Every buffer ends where a page begins that cannot be touched.

enum { SYS_READ = 63, SYS_WRITE = 64, SYS_EXIT = 93, SYS_MPROTECT = 226 };
enum { GUARD = 65536 };  // the largest page of arm64

#define PAGES(bytes) (((bytes) + GUARD - 1) / GUARD * GUARD)
#define PLACE(pages, bytes, align) ((pages) + (PAGES(bytes) - (bytes)) / (align) * (align))

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

static long system_call(long number, long a, long b, long c) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}

static void leave(int status) {
  for (;;) system_call(SYS_EXIT, status, 0, 0);
}

// Moves all bytes, or as many as there are before the end of the stream; ends on an error.
static long transfer(long number, int file, unsigned char *bytes, long count) {
  long done = 0;
  while (done < count) {
    long moved = system_call(number, file, (long)(bytes + done), count - done);
    if (moved < 0) leave(1);
    if (moved == 0) break;
    done += moved;
  }
  return done;
}

static void fill(unsigned char *bytes, long count, unsigned char value) {
  for (long i = 0; i < count; ++i) bytes[i] = value;
}

void _start(void) {
  unsigned char *guards[] = {memory.guard0, memory.guard1, memory.guard2, memory.guard3};
  unsigned char *input = PLACE(memory.input, INPUT_BYTES, 16);
  unsigned char *output = PLACE(memory.output, OUTPUT_BYTES, 16);
  unsigned char *workspace = PLACE(memory.workspace, WORKSPACE_BYTES, 64);
  unsigned char keep_workspace;

  for (int i = 0; i < 4; ++i)
    if (system_call(SYS_MPROTECT, (long)guards[i], GUARD, 0) != 0) leave(1);
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
