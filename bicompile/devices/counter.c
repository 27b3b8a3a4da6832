// Called by Unicorn once for every basic block that runs. A block adds one to each of its
// instructions: the counts are the running sum of `steps`, which is touched in two places only.
// The first `capacity` blocks are also noted in the order they ran, as first instruction and size.

struct record {
  long long *steps;
  unsigned (*blocks)[2];
  long long capacity, ran;
};

void count_block(void *engine, unsigned long long address, unsigned size, struct record *record) {
  unsigned first = (unsigned)((address - CODE_ADDRESS) / 4);
  (void)engine;
  record->steps[first] += 1;
  record->steps[first + size / 4] -= 1;
  if (record->ran < record->capacity) {
    record->blocks[record->ran][0] = first;
    record->blocks[record->ran][1] = size / 4;
  }
  record->ran += 1;
}
