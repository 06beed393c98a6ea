"""An iiod server in a thread of the test, the tools that connect to it, and what it should send."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

from sim_device.servers.iiod.server import IiodServer
from sim_device.servers.quantise import quantise

#: Debian packages of the tools.
PACKAGES = {
    "iio_info": "libiio-utils",
    "iio_attr": "libiio-utils",
    "iio_readdev": "libiio-utils",
    "iio_writedev": "libiio-utils",
    "iio_reg": "libiio-utils",
    "/usr/sbin/iiod": "iiod",
}


@contextmanager
def running_iiod(**params: object) -> Iterator[IiodServer]:
    server = IiodServer(params)
    thread = threading.Thread(target=server.run)
    with ExitStack() as stack:
        stack.callback(server.close)
        stack.callback(thread.join)
        stack.callback(server.end)
        thread.start()
        yield server


def expected_counts(server: IiodServer, tick: int, n: int, bits: int) -> np.ndarray:
    """What a second device that is set alike gives, ``[snapshot, channel, component]``."""
    twin = server.make_device()
    twin.set_params(**{k: getattr(server.feed, k) for k in ("frequency_hz", "sample_rate_hz", "gain_db")})
    return quantise(twin.samples(tick, n), bits).transpose(1, 0, 2)


def tool(name: str, *arguments: str, timeout_s: float = 20.0) -> bytes:
    """Run one of libiio's tools and return what it writes; the test is skipped where it is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed: Debian package {PACKAGES[name]}")
    done = subprocess.run([name, *arguments], capture_output=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-500:])
    return done.stdout


def exchange(port: int, script: bytes, timeout_s: float = 10.0) -> bytes:
    """Send ``script`` and return everything that comes until the server closes."""
    out = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout_s) as sock:
        sock.sendall(script)
        while data := sock.recv(1 << 16):
            out += data
    return bytes(out)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
