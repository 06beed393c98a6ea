"""One client's connection: commands of libiio 0.24's text protocol, and their answers."""

from __future__ import annotations

import errno
import logging
import re
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sim_device.servers.iiod.buffers import Buffers, OpenBuffer
from sim_device.servers.iiod.context import Attribute, Context, Direction, IioDevice, attribute_of, fail
from sim_device.servers.iiod.wire import ClientSocket, Gone
from sim_device.servers.iiod.xml import VERSION_GIT, VERSION_MAJOR, VERSION_MINOR, to_xml
from sim_device.servers.protocol_faults import FaultBoard

log = logging.getLogger(__name__)

#: Longest value of an attribute, and data of one READBUF or WRITEBUF.
MAX_VALUE, MAX_DATA = 1 << 20, 1 << 30
_STALL_S = 10.0
#: Words of a WRITE with a channel or a kind of attribute; of one without: 3.
_LONGEST_WRITE = {"INPUT": 5, "OUTPUT": 5, "DEBUG": 4, "BUFFER": 4}


@dataclass(frozen=True)
class Services:
    """What all connections share."""

    context: Context
    buffers: Buffers
    faults: FaultBoard
    ending: threading.Event
    xml: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "xml", to_xml(self.context).encode())


class Session:
    """Serves one client until it goes.

    Args:
        client: Its connection.
        services: What it can reach.
    """

    def __init__(self, client: ClientSocket, services: Services) -> None:
        self._client, self._services = client, services
        self._open: dict[str, OpenBuffer] = {}
        self._timeout_s: float | None = None
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "VERSION": self._version,
            "PRINT": self._print,
            "TIMEOUT": self._timeout,
            "READ": self._read,
            "WRITE": self._write,
            "GETTRIG": self._get_trigger,
            "SETTRIG": self._set_trigger,
            "SET": self._set,
            "OPEN": self._open_buffer,
            "CLOSE": self._close_buffer,
            "READBUF": self._read_buffer,
            "WRITEBUF": self._write_buffer,
        }

    def serve(self) -> None:
        try:
            while True:
                words = self._client.line().decode("ascii", "replace").split()
                if words[:1] and words[0].upper() == "EXIT":
                    return
                if words:
                    self._answer(words)
        except Gone as error:
            log.info("iiod: a client is gone: %s", error)
        finally:
            for opened in self._open.values():
                opened.close()
            self._client.close()

    def _answer(self, words: list[str]) -> None:
        try:
            command = self._commands.get(words[0].upper())
            if command is None:
                raise fail(errno.EINVAL, f"unknown command {words[0][:40]!r}")
            command(words[1:])
        except OSError as error:
            self._code(-(error.errno or errno.EIO))

    def _code(self, number: int) -> None:
        self._client.send(f"{number}\n".encode())

    def _device(self, words: Sequence[str]) -> IioDevice:
        if not words:
            raise fail(errno.EINVAL, "a device is missing")
        return self._services.context.device(words[0])

    # -- the context -----------------------------------------------------------------------------------------------

    def _version(self, words: list[str]) -> None:
        self._client.send(f"{VERSION_MAJOR}.{VERSION_MINOR}.{VERSION_GIT}\n".encode())

    def _print(self, words: list[str]) -> None:
        if words:
            raise fail(errno.EINVAL, "PRINT stands alone")
        xml = self._services.xml
        self._client.send(f"{len(xml)}\n".encode(), xml, b"\n")

    def _timeout(self, words: list[str]) -> None:
        milliseconds = _count(words, 0, 1 << 31)
        self._timeout_s = milliseconds / 1000 if milliseconds else None
        self._code(0)

    def _get_trigger(self, words: list[str]) -> None:
        self._device(words)
        self._code(0)  # there is none

    def _set_trigger(self, words: list[str]) -> None:
        self._device(words)
        if len(words) > 1:
            raise fail(errno.ENOENT, f"there is no trigger {words[1]}")
        self._code(0)

    def _set(self, words: list[str]) -> None:
        device = self._device(words)
        if len(words) != 3 or words[1].upper() != "BUFFERS_COUNT":
            raise fail(errno.EINVAL, "expected SET device BUFFERS_COUNT n")
        self._services.buffers.set_blocks(device, _count(words, 2, 4096))
        self._code(0)

    # -- attributes ------------------------------------------------------------------------------------------------

    def _read(self, words: list[str]) -> None:
        attributes, name, rest = self._attributes(words)
        if rest:
            raise fail(errno.EINVAL, f"READ: {rest[0][:40]!r} is too much")
        data = _packed(attributes) if name is None else _text(attribute_of(attributes, name))
        self._client.send(f"{len(data)}\n".encode(), data, b"\n")

    def _write(self, words: list[str]) -> None:
        n = _count(words, -1, MAX_VALUE)
        self._device(words)
        if len(words) > _LONGEST_WRITE.get(words[1].upper(), 3):
            raise fail(errno.EINVAL, "WRITE: too many words")
        data = self._client.exactly(n)  # the real daemon reads them for a device that it has, whatever else is wrong
        attributes, name, _ = self._attributes(words[:-1])
        if name is not None:
            attribute_of(attributes, name).store(data.decode("utf-8", "replace"))
        else:
            for attribute, text in zip(attributes, _unpacked(data), strict=False):
                if text is not None:
                    attribute.store(text)
        self._code(n)

    def _attributes(self, words: list[str]) -> tuple[Sequence[Attribute], str | None, list[str]]:
        """The attributes that a command is about, the name of one of them or none, and what follows it."""
        device, words = self._device(words), words[1:]
        kind = words[0].upper() if words else ""
        if kind in ("INPUT", "OUTPUT"):
            if len(words) < 2:
                raise fail(errno.EINVAL, "a channel is missing")
            direction: Direction = "input" if kind == "INPUT" else "output"
            attributes, words = device.channel(direction, words[1]).attributes, words[2:]
        elif kind == "DEBUG":
            attributes, words = device.debug, words[1:]
        elif kind == "BUFFER":
            attributes, words = device.buffer, words[1:]
        else:
            attributes = device.attributes
        return attributes, (words[0] if words else None), words[1:]

    # -- buffers ---------------------------------------------------------------------------------------------------

    def _open_buffer(self, words: list[str]) -> None:
        device = self._device(words)
        cyclic = len(words) == 4 and words[3].upper() == "CYCLIC"
        if len(words) != 3 + cyclic:
            raise fail(errno.EINVAL, "expected OPEN device samples mask [CYCLIC]")
        if not re.fullmatch(rf"[0-9a-fA-F]{{{8 * device.mask_words}}}", words[2]):
            raise fail(errno.EINVAL, f"the mask of {device.name} has {8 * device.mask_words} hexadecimal digits")
        if device.id not in self._open:  # the real daemon keeps the first
            self._open[device.id] = self._services.buffers.open(device, _count(words, 1, 1 << 26), int(words[2], 16))
        self._code(0)

    def _close_buffer(self, words: list[str]) -> None:
        opened = self._open.pop(self._device(words).id, None)
        if opened is None:
            raise fail(errno.ENXIO, "it is not open")
        opened.close()
        self._code(0)

    def _opened(self, words: list[str]) -> tuple[OpenBuffer, int]:
        device, n = self._device(words), _count(words, 1, MAX_DATA)
        if device.id not in self._open:
            raise fail(errno.EBADF, f"{device.name} is not open")
        return self._open[device.id], n

    def _read_buffer(self, words: list[str]) -> None:
        opened, n_left = self._opened(words)
        if opened.is_output:
            raise fail(errno.EBADF, "it is an output")
        if n_left == 0:
            self._code(0)
        first = True
        while n_left > 0:
            fault = self._do_fault(opened)
            tick = opened.take(self._timeout_s, self._services.ending)
            scan, mask = opened.layout()
            n_bytes = min(n_left, 2 * len(scan) * opened.n_samples)
            message = f"{n_bytes}\n".encode() + (mask if first else b"")
            if fault is not None and fault[0] == "corrupt":
                n = max(1, int(fault[1] or 1))
                message = bytes(b ^ 0x40 for b in message[:n]) + message[n:]
            elif fault is not None:
                n_bytes = min(n_bytes, 2 * len(scan) * int(opened.n_samples // 2 if fault[1] is None else fault[1]))
                message, n_left = f"{n_bytes}\n".encode() + (mask if first else b""), n_bytes
            for pieces in opened.pieces(tick, n_bytes, scan):
                self._client.send(message, *pieces)
                message = b""
            n_left, first = n_left - n_bytes, False
            if fault is not None and fault[0] == "short_read":
                self._client.send(b"0\n")

    def _do_fault(self, opened: OpenBuffer) -> tuple[str, float | None] | None:
        """Let what waits go wrong; return what is to be done to the next block."""
        fault = self._services.faults.take("stall", "drop_connection", "error", "overrun", "short_read", "corrupt")
        if fault is None:
            return None
        match fault.kind:
            case "stall":
                self._services.ending.wait(_STALL_S if fault.amount is None else fault.amount)
            case "drop_connection":
                raise Gone("dropped on command")
            case "error":
                raise fail(int(fault.amount or errno.EIO), "on command")
            case "overrun":
                opened.lose(int(fault.amount or opened.n_samples))
            case _:
                return fault.kind, fault.amount
        return None

    def _write_buffer(self, words: list[str]) -> None:
        opened, n = self._opened(words)
        if not opened.is_output:
            raise fail(errno.EBADF, "it is an input")
        self._code(0)
        self._client.skip(n)
        self._code(n)


def _count(words: Sequence[str], place: int, at_most: int) -> int:
    """The number that stands at a place."""
    try:
        value = int(words[place])
    except (IndexError, ValueError) as error:
        raise fail(errno.EINVAL, "a number is missing") from error
    if not 0 <= value <= at_most:
        raise fail(errno.EINVAL, f"{value} is not in 0 .. {at_most}")
    return value


def _text(attribute: Attribute) -> bytes:
    return attribute.read().encode() + b"\0"


def _packed(attributes: Sequence[Attribute]) -> bytes:
    """All values, each with its length (or error), padded to 4."""
    out = bytearray()
    for attribute in attributes:
        try:
            value = _text(attribute)
        except OSError as error:
            out += struct.pack(">i", -(error.errno or errno.EIO))
        else:
            out += struct.pack(">i", len(value)) + value + bytes(-len(value) % 4)
    return bytes(out)


def _unpacked(data: bytes) -> Iterator[str | None]:
    """The same the other way; ``None`` for one that is not to be written."""
    place = 0
    while place + 4 <= len(data):
        (length,) = struct.unpack_from(">i", data, place)
        place += 4
        if length < 0:
            yield None
            continue
        yield data[place : place + length].decode("utf-8", "replace")
        place += length + -length % 4
