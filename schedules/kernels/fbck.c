// Any M, N and K for the hand kernel: what fbck_strip.s leaves over.
//
//   fbck_i32: out[i][j] = popcount(a[i] ^ w[j])
//   fbck_f32: out[i][j] = k - 2 * popcount(a[i] ^ w[j]), the dot product of k values of -1 and 1
//
// a        m rows of `row_bytes` bytes, one after the other
// weights  n rows of as many bytes, as prepare_weights of this package lays them out
// out      m x n, row-major
//
// Bits past k in the last bytes of a row are zero on both sides. float32 holds every result
// exactly up to 2^24 bits. Nothing outside the buffers is touched.

#include <arm_neon.h>
#include <stdint.h>

typedef void strip(const uint8_t *rows, const uint8_t *weights, uint32_t *out, long row_bytes,
                   long out_bytes, long pairs, long rounds, long first, uint8x16_t mask,
                   int16x8_t bits);

__attribute__((visibility("hidden"))) strip fbck_strip_i32_one, fbck_strip_i32,
    fbck_strip_i32_tail, fbck_strip_f32_one, fbck_strip_f32, fbck_strip_f32_tail;

enum { VECTOR = 16, GROUP = 4, MOST_ROUNDS = 248, BLOCK = 64 };

typedef struct {
  strip *run;
  long row_bytes, rounds, first, k;
  uint8x16_t mask;
} shape;

// Every row against one group of weights; the results of a row are `out_columns` from the next's.
static void column(const shape *s, const uint8_t *a, const uint8_t *weights, uint32_t *out, long m,
                   long out_columns) {
  int16x8_t bits = vdupq_n_s16((int16_t)s->k);
  long even = m & ~1L;
  if (even)
    s->run(a, weights, out, s->row_bytes, 4 * out_columns, even / 2, s->rounds, s->first, s->mask,
           bits);
  if (m & 1)  // a last row without a partner is its own
    s->run(a + even * s->row_bytes, weights, out + even * out_columns, 0, 0, 1, s->rounds, s->first,
           s->mask, bits);
}

// Every group. The last one ends with the last column, whatever it then shares with its neighbour.
static void columns(const shape *s, const uint8_t *a, const uint8_t *weights, uint32_t *out, long m,
                    long n) {
  for (long j = 0; j < n; j += GROUP) {
    column(s, a, weights, out + (j < n - GROUP ? j : n - GROUP), m, n);
    weights += s->rounds * GROUP * VECTOR;
  }
}

// Rows too short for a vector are moved to the end of one; fewer columns than a group are picked
// from whole groups.
__attribute__((no_builtin)) static void small(const shape *s, const uint8_t *a,
                                              const uint8_t *weights, uint32_t *out, long m,
                                              long n) {
  uint8_t moved[BLOCK * VECTOR];
  uint32_t group[BLOCK * GROUP];
  for (long start = 0; start < m; start += BLOCK) {
    long rows = m - start < BLOCK ? m - start : BLOCK;
    const uint8_t *from = a + start * s->row_bytes;
    shape whole = *s;
    if (s->row_bytes < VECTOR) {
      for (long i = 0; i < rows; ++i) {
        vst1q_u8(moved + i * VECTOR, vdupq_n_u8(0));
        for (long byte = 0; byte < s->row_bytes; ++byte)
          moved[(i + 1) * VECTOR - s->row_bytes + byte] = from[i * s->row_bytes + byte];
      }
      from = moved;
      whole.row_bytes = VECTOR;
    }
    if (n >= GROUP) {
      columns(&whole, from, weights, out + start * n, rows, n);
      continue;
    }
    column(&whole, from, weights, group, rows, GROUP);
    for (long i = 0; i < rows; ++i)
      for (long j = 0; j < n; ++j) out[(start + i) * n + j] = group[i * GROUP + j];
  }
}

// Rows longer than E can sum, in pieces that it can: counts of one pair of rows and one group.
static void pieces(const shape *s, const uint8_t *a, long second, const uint8_t *weights,
                   uint32_t counts[2 * GROUP]) {
  uint32_t part[2 * GROUP];
  long left = s->rounds;
  strip *run = s->run;
  for (int cell = 0; cell < 2 * GROUP; ++cell) counts[cell] = 0;
  while (left) {
    // The strips with more than one round take two at least.
    long rounds = left <= MOST_ROUNDS ? left : MOST_ROUNDS - 1;
    int tail = run == fbck_strip_i32_tail;
    if (rounds == 1) run = fbck_strip_i32_one;
    run(a, weights, part, second, 4 * GROUP, 1, rounds, s->first, s->mask, vdupq_n_s16(0));
    for (int cell = 0; cell < 2 * GROUP; ++cell) counts[cell] += part[cell];
    a += (rounds - tail) * VECTOR;
    weights += rounds * GROUP * VECTOR;
    left -= rounds;
    run = fbck_strip_i32;
  }
}

static void large(const shape *s, const uint8_t *a, const uint8_t *weights, uint32_t *out, long m,
                  long n, int is_float) {
  uint32_t counts[2 * GROUP];
  for (long j = 0; j < n; j += GROUP, weights += s->rounds * GROUP * VECTOR) {
    // As `columns` has it, but for fewer columns than a group.
    long start = j < n - GROUP ? j : n < GROUP ? 0 : n - GROUP;
    for (long i = 0; i < m; i += 2) {
      long second = i + 1 < m ? s->row_bytes : 0;
      pieces(s, a + i * s->row_bytes, second, weights, counts);
      for (long cell = 0; cell < 2 * GROUP; ++cell) {
        long row = i + cell / GROUP, to = start + cell % GROUP;
        if (row >= m || to >= n) continue;
        uint32_t *place = out + row * n + to;
        if (is_float)
          *(float *)place = (float)(s->k - 2 * (long)counts[cell]);
        else
          *place = counts[cell];
      }
    }
  }
}

static void multiply(const uint8_t *a, const uint8_t *weights, uint32_t *out, long m, long n,
                     long row_bytes, long k, int is_float) {
  long tail = row_bytes % VECTOR;
  shape s = {0, row_bytes, (row_bytes + VECTOR - 1) / VECTOR, tail ? row_bytes - VECTOR : 0, k};
  uint8_t mask[VECTOR];
  for (int byte = 0; byte < VECTOR; ++byte) mask[byte] = byte < VECTOR - tail ? 0 : 0xFF;
  s.mask = vld1q_u8(mask);
  if (s.rounds > MOST_ROUNDS) {
    s.run = tail ? fbck_strip_i32_tail : fbck_strip_i32;
    large(&s, a, weights, out, m, n, is_float);
    return;
  }
  if (s.rounds == 1)
    s.run = is_float ? fbck_strip_f32_one : fbck_strip_i32_one;
  else if (tail)
    s.run = is_float ? fbck_strip_f32_tail : fbck_strip_i32_tail;
  else
    s.run = is_float ? fbck_strip_f32 : fbck_strip_i32;
  if (row_bytes < VECTOR || n < GROUP)
    small(&s, a, weights, out, m, n);
  else
    columns(&s, a, weights, out, m, n);
}

void fbck_i32(const uint8_t *a, const uint8_t *weights, int32_t *out, long m, long n,
              long row_bytes) {
  multiply(a, weights, (uint32_t *)out, m, n, row_bytes, 0, 0);
}

void fbck_f32(const uint8_t *a, const uint8_t *weights, float *out, long m, long n, long row_bytes,
              long k) {
  multiply(a, weights, (uint32_t *)out, m, n, row_bytes, k, 1);
}
