"""A device as a child process of its driver: started, read for its addresses, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

#: How long a child may take to end by itself before it is killed.
_TERM_S = 2.0
#: How long it may take to be ready. One that ends is noticed at once; on a busy host one that starts takes its time.
START_S = 60.0


class EmbeddedDevice:
    """Runs ``python -m MODULE --parent PID --config -`` and reads one line of JSON from it.

    The module is named by text, so that a driver imports no device. The child asks the kernel to be killed when the
    thread that started it ends (``--parent``): keep that thread for as long as the device is wanted.

    Args:
        module: Python module to run.
        params: Written to its standard input, as JSON.
    """

    def __init__(self, module: str, params: Mapping[str, Any]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        command = [sys.executable, "-m", module, "--parent", str(os.getpid()), "--config", "-"]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=one_thread(os.environ)
        )
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._child.stdin as config:  # it may have died; its status tells
            config.write(json.dumps(params).encode())

    @property
    def status(self) -> int | None:
        """Exit status, or ``None`` while it runs."""
        return self._child.poll()

    def addresses(self, timeout_s: float = START_S) -> dict[str, Any] | None:
        """Return what the child tells when it is ready; ``None`` where it does not in time, or has ended."""
        assert self._child.stdout is not None
        end, line = time.monotonic() + timeout_s, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    return None
                more = os.read(self._child.stdout.fileno(), 4096)
                if not more:
                    self._child.wait()
                    return None
                line += more
        addresses: dict[str, Any] = json.loads(line)
        return addresses

    def last_words(self) -> str:
        """The last line that the child wrote to its standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def close(self) -> None:
        """End the child: it is asked, then killed."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(_TERM_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._errors.close()


def one_thread(environment: Mapping[str, str], names: Sequence[str] = ("OPENBLAS", "OMP", "MKL")) -> dict[str, str]:
    """``environment`` with one BLAS thread."""
    return {**environment, **{f"{name}_NUM_THREADS": "1" for name in names}}
