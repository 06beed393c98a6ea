"""What a host that looks for devices is told: MPM discovery."""

from __future__ import annotations

from sim_device.servers.usrp.mpm import Motherboard

DISCOVERY_PORT = 49600
_ASK, _ECHO, _PREFIX = b"MPM-DISC", b"MPM-ECHO", "USRP-MPM"
_TOLD = ("type", "product", "serial", "name", "fpga")


def discovery_answer(request: bytes, motherboard: Motherboard) -> bytes | None:
    """Answer to a datagram; ``None``: it is not for us."""
    if request.startswith(_ASK):
        info = motherboard.device_info()
        told = [f"{key}={info[key]}" for key in _TOLD]
        return ";".join([_PREFIX, *told, f"claimed={motherboard.claimed}"]).encode()
    return request if request.startswith(_ECHO) else None
