"""The host: socket buffers, processors and their governor, clock, disk."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hil.doctor.finding import Finding

#: Receive buffer that UHD asks for over 10 gigabit Ethernet; with less it warns, and packets are lost in bursts.
_UHD_BUFFER = 24_912_805
#: Enough for 1 gigabit.
_GIGABIT_BUFFER = 2_500_000
_DISK_BYTES = 10_000_000_000
#: Bytes a second of four channels of int16 pairs at 3 MS/s.
_FOUR_CHANNELS = 4 * 4 * 3e6
_TIME_ERROR = 5
#: Words of the kernel's struct timex.
_TIMEX_WORDS, _MAXERROR = 32, 3


def check_host(folder: Path) -> Iterator[Finding]:
    """All but the permissions.

    Args:
        folder: Where recordings go.
    """
    yield check_socket_buffers()
    yield check_processors()
    yield check_governor()
    yield check_clock()
    yield check_disk(folder)


def check_socket_buffers(core: Path = Path("/proc/sys/net/core")) -> Finding:
    """The longest queue that the kernel keeps for a program that reads packets."""
    sizes = {}
    for name in ("rmem_max", "wmem_max"):
        try:
            sizes[name] = int((core / name).read_text())
        except (OSError, ValueError):
            return Finding("host", "socket buffers", "ok", "not to be seen here, as in some containers")
    says = ", ".join(f"net.core.{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
    small = [name for name, size in sizes.items() if size < _UHD_BUFFER]
    if not small:
        return Finding("host", "socket buffers", "ok", says)
    fix = "sudo sysctl -w " + " ".join(f"net.core.{name}={_UHD_BUFFER}" for name in small)
    enough = "enough for 1 gigabit/s" if min(sizes.values()) >= _GIGABIT_BUFFER else "too little for 1 gigabit/s"
    return Finding("host", "socket buffers", "warn", f"{says}: {enough}, not for USRPs at 10", fix)


def check_processors() -> Finding:
    n = len(os.sched_getaffinity(0))
    if n < 2:
        return Finding("host", "processors", "warn", "1: all blocks of a graph share it", "give it two or more")
    return Finding("host", "processors", "ok", str(n))


def check_governor(cpus: Path = Path("/sys/devices/system/cpu")) -> Finding:
    """How the kernel sets the processors' clock."""
    governors = {path.read_text().strip() for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    if not governors:
        return Finding("host", "governor", "ok", "not to be seen here, as in virtual machines")
    says = ", ".join(sorted(governors))
    if governors <= {"performance", "schedutil"}:
        return Finding("host", "governor", "ok", says)
    fix = "sudo cpupower frequency-set --governor performance"
    return Finding("host", "governor", "warn", f"{says}: the clock follows the load late", fix)


def check_clock() -> Finding:
    """Whether the kernel says that its clock is synchronized; frames of devices without a clock carry its time."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = (ctypes.c_long * _TIMEX_WORDS)()
    state = libc.adjtimex(timex)  # modes = 0: read only
    if state < 0:
        return Finding("host", "clock", "warn", "whether it is synchronized cannot be read", "timedatectl")
    error_ms = timex[_MAXERROR] / 1e3
    if state == _TIME_ERROR:
        fix = "sudo apt-get install chrony; times of several hosts do not compare until then"
        return Finding("host", "clock", "warn", "not synchronized", fix)
    return Finding("host", "clock", "ok", f"synchronized, off by {error_ms:.3g} ms at most")


def check_disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    minutes = free / _FOUR_CHANNELS / 60
    says = f"{free / 1e9:.0f} GB free in {folder}: {minutes:.0f} minutes of 4 channels at 3 MS/s"
    if free < _DISK_BYTES:
        return Finding("host", "disk", "warn", says, "make room, or record elsewhere")
    return Finding("host", "disk", "ok", says)
