"""GNU Radio's ZeroMQ blocks, in two processes of the Python that has them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.loopback import free_port

_PEER = Path(__file__).with_name("gnuradio_peer.py")
#: Debian's package is for the system's Python.
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin")


def missing() -> str | None:
    """Why it cannot be measured here, or ``None``."""
    if PYTHON is None:
        return "there is no system Python"
    done = subprocess.run([PYTHON, "-c", "import gnuradio.zeromq"], capture_output=True, text=True)
    if done.returncode:
        return "GNU Radio is not installed: `make setup` installs it where it may (Debian package gnuradio)"
    return None


def throughput(pattern: str, transport: str, seconds: float) -> float:
    """Return bytes a second at the receiver of a flood of complex64 items.

    Raises:
        RuntimeError: One of the processes failed; says how.
    """
    assert PYTHON is not None
    with tempfile.TemporaryDirectory(prefix="hil-bench-") as directory:
        endpoint = f"tcp://127.0.0.1:{free_port()}" if transport == "tcp" else f"ipc://{directory}/gr"
        peer = [PYTHON, str(_PEER)]
        sender = subprocess.Popen([*peer, "send", pattern, endpoint, "60"], stdout=subprocess.DEVNULL)
        try:
            done = subprocess.run(
                [*peer, "receive", pattern, endpoint, str(seconds)], capture_output=True, text=True, timeout=60
            )
        finally:
            sender.kill()
            sender.wait()
    if done.returncode:
        raise RuntimeError(f"GNU Radio {pattern} over {transport}: {done.stderr.strip().splitlines()[-1:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["bytes_per_s"])
