// The Fast Bitwise Computation Kernel of BiFSMN on a strip: four weight rows against any number of
// pairs of activation rows, one tile of 4 x 2 results after the other. Armv8-A, no optional feature.
//
//   partition  registers  holds
//   A          v0-v3      16 bytes of each of four weight rows
//   B          v4-v5      16 bytes of each of two activation rows
//   C          v16-v23    EOR and CNT temporaries, one a cell
//   D          v24-v31    8-bit sums of at most 31 rounds
//   E          v8-v15     16-bit sums; D folds into E
//
// Cell (i, j) of weight row i and activation row j is register 4 j + i of C, D and E. Beside the 30
// there are two constants: v6, the number of bits (float results), and v7, the mask of a tail.
//
// The first round counts straight into D and the first fold pairs straight into E, so that neither
// is ever cleared. The sums of one tile are brought together in E while A, B, C and D already do
// the first round of the next: an in-order core then never waits for them.
//
// void strip(const uint8_t *rows, const uint8_t *weights, uint32_t *out, long row_bytes,
//            long out_bytes, long pairs, long rounds, long first, uint8x16_t mask, int16x8_t bits)
//
//   x0 rows       of pairs * 2 rows; the last pair may be one row twice (row_bytes 0)
//   x1 weights    rounds * 64 bytes, 16 of each row after those of the row before it
//   x2 out        two rows of four results a tile, `out_bytes` apart
//   x3 row_bytes  from a row to the next
//   x6 rounds     of 16 bytes, at most 248: a sum of E then stays below 2^15
//   x7 first      byte of a row at which its first round is (strips with a tail only)
//   v0 mask       ANDed to the activations of the first round (strips with a tail only)
//   v1 bits       in every lane (float results only): a result is bits - 2 * popcount

// Inside: x0 and x9 the two rows, x2 and x10 their results, x5 pairs, x11 step of the results,
// x12 step of the rows, x13 weights of the next round, x14 and x15 rounds of the loop in the first
// segment and after it, x16 and x17 the same, running.

.macro eor_all
  eor v16.16b, v0.16b, v4.16b
  eor v17.16b, v1.16b, v4.16b
  eor v18.16b, v2.16b, v4.16b
  eor v19.16b, v3.16b, v4.16b
  eor v20.16b, v0.16b, v5.16b
  eor v21.16b, v1.16b, v5.16b
  eor v22.16b, v2.16b, v5.16b
  eor v23.16b, v3.16b, v5.16b
.endm


// CNT of a round into eight registers; the operands of the next round are loaded beside it.
.macro count_and_load to0, to1, to2, to3, to4, to5, to6, to7
  cnt v\to0\().16b, v16.16b
  ldr q4, [x0], #16
  cnt v\to1\().16b, v17.16b
  ldr q5, [x9], #16
  cnt v\to2\().16b, v18.16b
  ldp q0, q1, [x13], #32
  cnt v\to3\().16b, v19.16b
  cnt v\to4\().16b, v20.16b
  ldp q2, q3, [x13], #32
  cnt v\to5\().16b, v21.16b
  cnt v\to6\().16b, v22.16b
  cnt v\to7\().16b, v23.16b
.endm

.macro add_all
  add v24.16b, v24.16b, v16.16b
  add v25.16b, v25.16b, v17.16b
  add v26.16b, v26.16b, v18.16b
  add v27.16b, v27.16b, v19.16b
  add v28.16b, v28.16b, v20.16b
  add v29.16b, v29.16b, v21.16b
  add v30.16b, v30.16b, v22.16b
  add v31.16b, v31.16b, v23.16b
.endm

// D into E: `uaddlp` starts E, `uadalp` adds to it. Instructions of the caller go between.
.macro fold op, beside0, beside1, beside2
  \op v8.8h, v24.16b
  \beside0
  \op v9.8h, v25.16b
  \op v12.8h, v28.16b
  \beside1
  \op v13.8h, v29.16b
  \op v10.8h, v26.16b
  \beside2
  \op v11.8h, v27.16b
  \op v14.8h, v30.16b
  \op v15.8h, v31.16b
.endm

// E of one tile to its eight results in v10 and v11, with the first round of the next beside it.
// The order keeps four cycles between an instruction and one that waits for it.
.macro turn float, tail, many
  addp v8.8h, v8.8h, v9.8h
.if \tail
  ldr q4, [x0, x7]
.elseif \many
  ldr q4, [x0], #16
.else
  ld1 {v4.16b}, [x0], x12
.endif
  addp v10.8h, v10.8h, v11.8h
.if \tail
  ldr q5, [x9, x7]
.elseif \many
  ldr q5, [x9], #16
.else
  ld1 {v5.16b}, [x9], x12
.endif
  addp v12.8h, v12.8h, v13.8h
  addp v14.8h, v14.8h, v15.8h
.if \tail
  and v4.16b, v4.16b, v7.16b
  addp v8.8h, v8.8h, v10.8h
  and v5.16b, v5.16b, v7.16b
  addp v12.8h, v12.8h, v14.8h
  eor v16.16b, v0.16b, v4.16b
.else
  eor v16.16b, v0.16b, v4.16b
  addp v8.8h, v8.8h, v10.8h
  eor v17.16b, v1.16b, v4.16b
  addp v12.8h, v12.8h, v14.8h
.endif
.if \tail
  eor v17.16b, v1.16b, v4.16b
.endif
  eor v18.16b, v2.16b, v4.16b
  eor v19.16b, v3.16b, v4.16b
  eor v20.16b, v0.16b, v5.16b
  addp v8.8h, v8.8h, v12.8h
  eor v21.16b, v1.16b, v5.16b
  eor v22.16b, v2.16b, v5.16b
  eor v23.16b, v3.16b, v5.16b
.if \float
  sub v9.8h, v6.8h, v8.8h
.endif
  cnt v24.16b, v16.16b
.if \many
  ldr q4, [x0], #16
.endif
  cnt v25.16b, v17.16b
.if \many
  ldr q5, [x9], #16
.endif
  cnt v26.16b, v18.16b
.if \many
  ldp q0, q1, [x13], #32
.endif
.if \float
  ssubl v10.4s, v9.4h, v8.4h
  ssubl2 v11.4s, v9.8h, v8.8h
.else
  ushll v10.4s, v8.4h, #0
  ushll2 v11.4s, v8.8h, #0
.endif
.if \many
  ldp q2, q3, [x13], #32
.endif
  cnt v27.16b, v19.16b
  cnt v28.16b, v20.16b
.if \float
  scvtf v10.4s, v10.4s
  scvtf v11.4s, v11.4s
.endif
  cnt v29.16b, v21.16b
  cnt v30.16b, v22.16b
  cnt v31.16b, v23.16b
.endm

// The same for the last tile, with nothing beside it.
.macro drain float
  addp v8.8h, v8.8h, v9.8h
  addp v10.8h, v10.8h, v11.8h
  addp v12.8h, v12.8h, v13.8h
  addp v14.8h, v14.8h, v15.8h
  addp v8.8h, v8.8h, v10.8h
  addp v12.8h, v12.8h, v14.8h
  addp v8.8h, v8.8h, v12.8h
.if \float
  sub v9.8h, v6.8h, v8.8h
  ssubl v10.4s, v9.4h, v8.4h
  ssubl2 v11.4s, v9.8h, v8.8h
  scvtf v10.4s, v10.4s
  scvtf v11.4s, v11.4s
.else
  ushll v10.4s, v8.4h, #0
  ushll2 v11.4s, v8.8h, #0
.endif
  st1 {v10.4s}, [x2]
  st1 {v11.4s}, [x10]
.endm

.macro enter name, float, tail
  .globl \name
  .hidden \name
  .p2align 4
  .type \name, %function
\name:
  stp d8, d9, [sp, #-64]!
  stp d10, d11, [sp, #16]
  stp d12, d13, [sp, #32]
  stp d14, d15, [sp, #48]
  add x9, x0, x3
  add x10, x2, x4
  lsl x11, x4, #1
  lsl x12, x3, #1
.if \tail
  mov v7.16b, v0.16b
.endif
.if \float
  mov v6.16b, v1.16b
.endif
.endm

.macro leave name
  ldp d10, d11, [sp, #16]
  ldp d12, d13, [sp, #32]
  ldp d14, d15, [sp, #48]
  ldp d8, d9, [sp], #64
  ret
  .size \name, . - \name
.endm

// One round: the weights stay in A.
.macro one_round name, float
  enter \name, \float, 0
  ld1 {v4.16b}, [x0], x12
  ldp q0, q1, [x1]
  ld1 {v5.16b}, [x9], x12
  ldp q2, q3, [x1, #32]
  eor_all
  cnt v24.16b, v16.16b
  cnt v25.16b, v17.16b
  cnt v26.16b, v18.16b
  cnt v27.16b, v19.16b
  cnt v28.16b, v20.16b
  cnt v29.16b, v21.16b
  cnt v30.16b, v22.16b
  cnt v31.16b, v23.16b
  fold uaddlp
  subs x5, x5, #1
  b.eq .Ldrain\@

.Ltile\@:
  turn \float, 0, 0
  fold uaddlp, "st1 {v10.4s}, [x2], x11", "st1 {v11.4s}, [x10], x11", "subs x5, x5, #1"
  b.ne .Ltile\@
.Ldrain\@:
  drain \float
  leave \name
.endm

// Two rounds or more. A segment is what D can hold: 31 rounds, of which the loop does up to 29, as
// one was before it and one comes after.
.macro many_rounds name, float, tail
  enter \name, \float, \tail
  sub x15, x6, #2
  mov x16, #29
  cmp x15, x16
  csel x14, x15, x16, lo
  sub x15, x15, x14
.if \tail
  sub x6, x6, #1
.endif
  sub x12, x12, x6, lsl #4
  mov x13, x1
  ldp q0, q1, [x13], #32
.if \tail
  ldr q4, [x0, x7]
  ldr q5, [x9, x7]
  and v4.16b, v4.16b, v7.16b
  and v5.16b, v5.16b, v7.16b
.else
  ldr q4, [x0], #16
  ldr q5, [x9], #16
.endif
  ldp q2, q3, [x13], #32
  eor_all
  count_and_load 24, 25, 26, 27, 28, 29, 30, 31
  mov x16, x14
  mov x17, x15
  eor_all
  cbz x16, .Llast\@
  b .Lround\@

.Ltile\@:
  turn \float, \tail, 1
  mov x16, x14
  eor v16.16b, v0.16b, v4.16b
  mov x17, x15
  eor v17.16b, v1.16b, v4.16b
  st1 {v10.4s}, [x2], x11
  eor v18.16b, v2.16b, v4.16b
  st1 {v11.4s}, [x10], x11
  eor v19.16b, v3.16b, v4.16b
  eor v20.16b, v0.16b, v5.16b
  eor v21.16b, v1.16b, v5.16b
  eor v22.16b, v2.16b, v5.16b
  eor v23.16b, v3.16b, v5.16b
  cbz x16, .Llast\@
.Lround\@:
  count_and_load 16, 17, 18, 19, 20, 21, 22, 23
  subs x16, x16, #1
  add_all
  eor_all
  b.ne .Lround\@
  cbnz x17, .Lsegment\@
.Llast\@:
  cnt v16.16b, v16.16b
  cnt v17.16b, v17.16b
  add x0, x0, x12
  cnt v18.16b, v18.16b
  add x9, x9, x12
  cnt v19.16b, v19.16b
  mov x13, x1
  cnt v20.16b, v20.16b
  subs x5, x5, #1
  cnt v21.16b, v21.16b
  cnt v22.16b, v22.16b
  cnt v23.16b, v23.16b
  add_all
  cbnz x15, .Lfold\@
  fold uaddlp, "ldp q0, q1, [x13], #32", "ldp q2, q3, [x13], #32"
  b.ne .Ltile\@
  b .Ldrain\@
.Lfold\@:
  fold uadalp, "ldp q0, q1, [x13], #32", "ldp q2, q3, [x13], #32"
  b.ne .Ltile\@
.Ldrain\@:
  drain \float
  leave \name

.Lsegment\@:
  cmp x17, x15
  b.ne .Lmore\@
  fold uaddlp
  b .Lstart\@
.Lmore\@:
  fold uadalp
.Lstart\@:
  sub x17, x17, #1
  mov x16, #29
  cmp x17, x16
  csel x16, x17, x16, lo
  sub x17, x17, x16
  count_and_load 24, 25, 26, 27, 28, 29, 30, 31
  eor_all
  cbz x16, .Llast\@
  b .Lround\@
.endm

  .text
  one_round fbck_strip_i32_one, 0
  many_rounds fbck_strip_i32, 0, 0
  many_rounds fbck_strip_i32_tail, 0, 1
  one_round fbck_strip_f32_one, 1
  many_rounds fbck_strip_f32, 1, 0
  many_rounds fbck_strip_f32_tail, 1, 1
  .section .note.GNU-stack, "", %progbits
