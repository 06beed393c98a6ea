"""What this user may do: USB radios, real-time priority, shared memory, open files."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from hil.doctor.finding import Finding

#: USB vendors of radios, and the package with the udev rules that let users open them.
_VENDORS = {
    "0456": ("Analog Devices", "libiio0"),
    "2500": ("Ettus Research", "uhd-host"),
    "3923": ("National Instruments", "uhd-host"),
    "fffe": ("Ettus Research (USRP1)", "uhd-host"),
    "0bda": ("Realtek", "rtl-sdr"),
    "1d50": ("OpenMoko (HackRF and others)", "hackrf"),
}
#: A DVB-T stick is one, a card reader of the same vendor is none.
_REALTEK_RADIOS = ("2832", "2838")
#: Frames in flight between blocks; Docker gives a container 64 MB.
_SHM_BYTES = 256 << 20
_OPEN_FILES = 1024


def check_permissions() -> Iterator[Finding]:
    yield check_usb()
    yield check_realtime()
    yield check_shared_memory()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _OPEN_FILES:
        yield Finding("permissions", "open files", "warn", f"at most {soft}", f"ulimit -n {max(_OPEN_FILES, hard)}")
    else:
        yield Finding("permissions", "open files", "ok", f"at most {soft}")


def check_usb(devices: Path = Path("/sys/bus/usb/devices"), nodes: Path = Path("/dev/bus/usb")) -> Finding:
    """Whether the USB radios that are plugged in may be opened.

    Args:
        devices: Where the kernel lists them.
        nodes: Where they are opened.
    """
    radios, refused, packages = [], [], set()
    for device in sorted(devices.glob("*/idVendor")):
        vendor = device.read_text().strip()
        product = _read(device.parent / "idProduct")
        if vendor not in _VENDORS or (vendor == "0bda" and product not in _REALTEK_RADIOS):
            continue
        maker, package = _VENDORS[vendor]
        name = _read(device.parent / "product") or f"{maker} {vendor}:{product}"
        radios.append(name)
        node = (
            nodes
            / f"{int(_read(device.parent / 'busnum') or 0):03}"
            / f"{int(_read(device.parent / 'devnum') or 0):03}"
        )
        if not os.access(node, os.R_OK | os.W_OK):
            refused.append(f"{name} at {node}")
            packages.add(package)
    if refused:
        fix = f"sudo apt-get install {' '.join(sorted(packages))} (its udev rules), then plug the device in again"
        return Finding("permissions", "USB", "fail", f"may not be opened: {', '.join(refused)}", fix)
    return Finding(
        "permissions", "USB", "ok", f"may be opened: {', '.join(radios)}" if radios else "no radio plugged in"
    )


def check_realtime() -> Finding:
    """Whether threads may take real-time priority, as UHD's want to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
    if os.geteuid() == 0 or max(soft, hard) > 0 or hard == resource.RLIM_INFINITY:
        return Finding("permissions", "real-time priority", "ok", "allowed")
    fix = "a line '@radio - rtprio 99' in /etc/security/limits.d/radio.conf, this user in the group radio, log in anew"
    says = "not allowed: other programs may hold up the reading of a fast device"
    return Finding("permissions", "real-time priority", "warn", says, fix)


def check_shared_memory(path: Path = Path("/dev/shm")) -> Finding:
    """Whether frames can go from block to block in shared memory."""
    if not (path.is_dir() and os.access(path, os.W_OK | os.X_OK)):
        says = f"{path} may not be written: frames go through sockets, which copies them"
        return Finding("permissions", "shared memory", "warn", says, f"sudo mount -t tmpfs -o mode=1777 tmpfs {path}")
    free = os.statvfs(path)
    n_bytes = free.f_bavail * free.f_frsize
    if n_bytes < _SHM_BYTES:
        fix = f"sudo mount -o remount,size=1G {path}; in a container: docker run --shm-size=1g"
        return Finding("permissions", "shared memory", "warn", f"{n_bytes / 1e6:.0f} MB free in {path}", fix)
    return Finding("permissions", "shared memory", "ok", f"{n_bytes / 1e9:.1f} GB free in {path}")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
