// Called by Unicorn once for every basic block that runs. A block adds one to each of its
// instructions: the counts are the running sum of `steps`, which is touched in two places only.

void count_block(void *engine, unsigned long long address, unsigned size, long long *steps) {
  unsigned long long first = (address - CODE_ADDRESS) / 4;
  (void)engine;
  steps[first] += 1;
  steps[first + size / 4] -= 1;
}
