"""Keep memory that was freed, for the next request."""

import ctypes

KEPT_MIB = 64
_MMAP_MIB = 32  # the most that mallopt(3) takes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Have glibc's malloc keep up to :data:`KEPT_MIB` of what this process frees; nothing with another C library.

    By itself it gives arrays back to the kernel at once, and the next request takes them anew page by page: a million
    page faults for 200 small AMUN requests, half of their time. See mallopt(3).
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_MIB << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_MIB << 20)
