"""Send many datagrams of one size in one system call: Linux's sendmmsg, without the interpreter's lock."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

#: ``struct mmsghdr`` and ``struct iovec`` of 64-bit Linux.
_MESSAGE = np.dtype(
    {
        "names": ["name", "name_length", "vector", "vector_length", "control", "control_length", "flags", "sent"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
_VECTOR = np.dtype([("base", "u8"), ("length", "u8")])
_LIBC = ctypes.CDLL(None, use_errno=True)


class ManySender:
    """Sends rows of an array as datagrams.

    Args:
        most: Datagrams in one call.
    """

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self._vectors = np.zeros(most, _VECTOR)
        self._messages = np.zeros(most, _MESSAGE)
        self._address = ctypes.create_string_buffer(16)
        self._messages["name"] = ctypes.addressof(self._address)
        self._messages["name_length"] = 16
        self._messages["vector"] = self._vectors.ctypes.data + _VECTOR.itemsize * np.arange(most, dtype=np.uint64)
        self._messages["vector_length"] = 1

    def send(self, sender: socket.socket, packets: npt.NDArray[Any], host: tuple[str, int], n_bytes: int) -> None:
        """Send the first ``n_bytes`` of each row of ``packets`` to ``host``, IPv4.

        Raises:
            OSError: The system refused.
        """
        struct.pack_into("=H", self._address, 0, socket.AF_INET)
        struct.pack_into("!H4s", self._address, 2, host[1], socket.inet_aton(host[0]))
        stride = packets.strides[0]
        for first in range(0, len(packets), self.most):
            rows = packets[first : first + self.most]
            n = len(rows)
            self._vectors["base"][:n] = rows.ctypes.data + stride * np.arange(n, dtype=np.uint64)
            self._vectors["length"][:n] = n_bytes
            done = 0
            while done < n:
                at = self._messages.ctypes.data + _MESSAGE.itemsize * done
                sent = _LIBC.sendmmsg(sender.fileno(), ctypes.c_void_p(at), n - done, 0)
                if sent >= 0:
                    done += sent
                    continue
                code = ctypes.get_errno()
                if code not in (errno.EINTR, errno.EAGAIN, errno.ECONNREFUSED):
                    raise OSError(code, os.strerror(code))
