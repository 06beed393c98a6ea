import platform
import subprocess
import sys

import pytest

FREED_PAGES = """
import ctypes, resource
from hil.runtime.memory import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
kept = keep_freed_memory()
def touch():
    p = libc.malloc(4 << 20)
    ctypes.memset(p, 1, 4 << 20)
    libc.free(p)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    touch()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_what_was_freed_is_not_mapped_again():
    done = subprocess.run([sys.executable, "-c", FREED_PAGES], capture_output=True, text=True, check=True)
    kept, n_faults = done.stdout.split()
    # one round alone touches 1024 pages
    assert kept == "True" and int(n_faults) < 1024
