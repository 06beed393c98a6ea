"""The driver's side of the process that has UHD: started, spoken to, killed."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from drivers.embedded import one_thread
from drivers.uhd_child import HEADER_BYTES

I16 = npt.NDArray[np.int16]

_CHILD = Path(__file__).with_name("uhd_child.py")
#: A child that sees its parent go ends its stream and lets go of the boards; one that hangs is killed.
_END_S = 3.0


class UhdLink:
    """A child process and what it tells.

    Args:
        interpreter: Python that has UHD.
        config: What to open.
    """

    def __init__(self, interpreter: str, config: dict[str, Any]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._ring_fd = os.memfd_create("uhd-samples")
        self._socket, theirs = socket.socketpair()
        self._memory: mmap.mmap | None = None
        self._slots: I16 | None = None
        self._emptied: npt.NDArray[np.uint64] | None = None
        self._buffer = bytearray()
        self.heard_s = time.monotonic()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment = {"UHD_LOG_FASTPATH_DISABLE": "1", "UHD_LOG_CONSOLE_LEVEL": "error", **one_thread(environment)}
        with theirs:
            fds = theirs.fileno(), self._ring_fd
            try:
                self._child = subprocess.Popen(
                    [interpreter, str(_CHILD), *map(str, fds), str(os.getpid())],
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    stdout=self._errors,
                    stderr=self._errors,
                    env=environment,
                )
            except OSError:
                self._socket.close()
                os.close(self._ring_fd)
                self._errors.close()
                raise
        self.send(config)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; one that has gone is found out when it is listened to."""
        data = json.dumps(message).encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(struct.pack("<I", len(data)) + data)

    def receive(self, timeout_s: float) -> list[dict[str, Any]] | None:
        """What the child has told; ``None``: it has ended.

        Waits at most ``timeout_s`` for the first word.
        """
        end = time.monotonic() + timeout_s
        while True:
            messages = self._whole_messages()
            if messages:
                self.heard_s = time.monotonic()
                return messages
            ready, _, _ = select.select([self._socket], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return []
            try:
                data = self._socket.recv(1 << 18)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._buffer += data

    def map_ring(self, n_slots: int, n_channels: int, n_samples: int) -> None:
        """Look at the memory that the child fills."""
        self._memory = mmap.mmap(self._ring_fd, HEADER_BYTES + 4 * n_slots * n_channels * n_samples)
        slots = np.frombuffer(self._memory, np.int16, offset=HEADER_BYTES)
        self._slots = slots.reshape(n_slots, n_channels, n_samples, 2)
        self._emptied = np.frombuffer(self._memory, np.uint64, 1)

    def take(self, slot: int, n: int) -> I16:
        """A copy of the first ``n`` samples of a slot, ``[channel, n, component]``; the slot is free again."""
        assert self._slots is not None
        assert self._emptied is not None
        samples: I16 = self._slots[slot, :, :n].copy()
        self._emptied[0] += 1
        return samples

    def skip(self) -> None:
        """Free a slot whose samples nobody wants."""
        assert self._emptied is not None
        self._emptied[0] += 1

    def last_words(self) -> str:
        """The last line that the child wrote to its standard error."""
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"it ended with status {self._child.poll()}"

    def close(self) -> None:
        """Kill the child; its claim on the boards ends by itself, or at once where it could still say so."""
        self._socket.close()
        try:
            self._child.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._slots = self._emptied = None
        if self._memory is not None:
            self._memory.close()
        os.close(self._ring_fd)
        self._errors.close()

    def _whole_messages(self) -> list[dict[str, Any]]:
        out, at = [], 0
        while len(self._buffer) - at >= 4:
            (length,) = struct.unpack_from("<I", self._buffer, at)
            if len(self._buffer) - at < 4 + length:
                break
            out.append(json.loads(self._buffer[at + 4 : at + 4 + length]))
            at += 4 + length
        del self._buffer[:at]
        return out
