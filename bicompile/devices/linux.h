// What a program around a compiled model needs of Linux, without a libc: system calls of arm64 and
// x86-64, streams, and buffers that end where a page begins that cannot be touched.

enum { GUARD = 65536 };  // the largest page of either

#define PAGES(bytes) (((bytes) + GUARD - 1) / GUARD * GUARD)
#define PLACE(pages, bytes, align) ((pages) + (PAGES(bytes) - (bytes)) / (align) * (align))

#if defined(__aarch64__)

enum { SYS_READ = 63, SYS_WRITE = 64, SYS_EXIT = 93, SYS_CLOCK = 113, SYS_MPROTECT = 226 };

#define FIRST_FUNCTION

static long system_call(long number, long a, long b, long c) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}

#elif defined(__x86_64__)

enum { SYS_READ = 0, SYS_WRITE = 1, SYS_MPROTECT = 10, SYS_EXIT = 60, SYS_CLOCK = 228 };

#define FIRST_FUNCTION __attribute__((force_align_arg_pointer))  // nobody called it

static long system_call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c)
                   : "rcx", "r11", "memory");
  return result;
}

#endif

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

static void guard(unsigned char *pages) {
  if (system_call(SYS_MPROTECT, (long)pages, GUARD, 0) != 0) leave(1);
}
