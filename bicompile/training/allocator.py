"""Asking the C library to keep memory that is freed, because a training step soon needs it again.

glibc hands blocks of more than a few hundred kilobytes back to the kernel, which clears their pages
anew at the next step: on a CPU that took a third of the time in which features are computed.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt, in glibc's malloc.h
_BYTES = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26, _MMAP_THRESHOLD: 2**30}


def keep_freed_memory() -> bool:
    """Set this for the whole process; returns whether it was done: only glibc can."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(option, size) == 1 for option, size in _BYTES.items())
