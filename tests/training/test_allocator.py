"""Freed memory stays with the process."""

import resource
import subprocess
import sys

import pytest

from bicompile.training.allocator import keep_freed_memory

LARGE = 2**24  # bytes, above what glibc keeps by itself
COUNT = f"""
import resource
from bicompile.training.allocator import keep_freed_memory
assert keep_freed_memory()
bytearray({LARGE})
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    bytearray({LARGE})
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_large_blocks_are_used_again_without_page_faults() -> None:
    run = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    assert int(run.stdout) < LARGE // resource.getpagesize()
