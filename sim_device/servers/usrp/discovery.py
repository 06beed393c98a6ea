"""What a host that looks for devices is told: MPM discovery, UDP."""

from __future__ import annotations

import contextlib
import socket
import threading

from sim_device.servers.usrp.mpm import Motherboard

DISCOVERY_PORT = 49600
_POLL_S = 0.05
_ASK, _ECHO, _PREFIX = b"MPM-DISC", b"MPM-ECHO", "USRP-MPM"
_TOLD = ("type", "product", "serial", "name", "fpga")


class Discovery:
    """Answers at one board's address."""

    def __init__(self, address: str, motherboard: Motherboard, ending: threading.Event) -> None:
        self._motherboard, self._ending = motherboard, ending
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((address, DISCOVERY_PORT))
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(_POLL_S)

    def answer(self, request: bytes) -> bytes | None:
        """Answer to a datagram; ``None``: it is not for us."""
        if request.startswith(_ASK):
            info = self._motherboard.device_info()
            told = [f"{key}={info[key]}" for key in _TOLD]
            return ";".join([_PREFIX, *told, f"claimed={self._motherboard.claimed}"]).encode()
        return request if request.startswith(_ECHO) else None

    def listen(self) -> None:
        """Answer until the end."""
        while not self._ending.is_set():
            try:
                request, host = self._socket.recvfrom(1 << 16)
            except (TimeoutError, ConnectionRefusedError):
                continue
            answer = self.answer(request)
            if answer is not None:
                with contextlib.suppress(OSError):  # it has gone, or is where no answer reaches it
                    self._socket.sendto(answer, host)

    def close(self) -> None:
        self._socket.close()
