"""A protocol server in a thread of the test, and what a live driver gives."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from hil.frame import Frame, Header
from hil.runtime.control import ControlClient
from sim_device.servers.protocol_server import ProtocolServer


class Served:
    """A server that runs, and a client of its control socket."""

    def __init__(self, server: ProtocolServer, stack: ExitStack) -> None:
        self.server, self.uri = server, server.uri
        self.control = stack.enter_context(ControlClient(server.control.endpoint))

    def fault(self, kind: str, amount: float | None = None) -> None:
        self.control.request("fault", kind=kind, amount=amount)


@contextmanager
def served(server_class: type[ProtocolServer], **params: Any) -> Iterator[Served]:
    server = server_class(params)
    thread = threading.Thread(target=server.run)
    with ExitStack() as stack:
        # a collection of all that the tests before left takes longer than the 0.1 s that UHD waits for an answer
        gc.collect(1)
        gc.disable()
        stack.callback(gc.enable)
        stack.callback(server.close)
        stack.callback(thread.join)
        stack.callback(server.end)
        thread.start()
        yield Served(server, stack)


def read_until(driver: Any, enough: Callable[[list[Frame]], bool], timeout_s: float = 20.0) -> list[Frame]:
    """Frames of the driver until ``enough(frames)``; fails after a while."""
    frames: list[Frame] = []
    end = time.monotonic() + timeout_s
    while not enough(frames):
        assert time.monotonic() < end, f"waited {timeout_s} s; came: {[f.header.meta for f in frames][-20:]}"
        reading = driver.read(0.2)
        assert reading is not None, "the stream ended"
        frames += [f for _, f in reading]
    return frames


def data(frames: list[Frame]) -> list[Header]:
    return [f.header for f in frames if f.header.kind == "data"]


def events(frames: list[Frame]) -> list[str]:
    return [f.header.meta["event"] for f in frames if f.header.kind == "event"]


def event(frames: list[Frame], name: str) -> dict[str, Any]:
    """The first event of that name."""
    return next(dict(f.header.meta) for f in frames if f.header.kind == "event" and f.header.meta["event"] == name)


def has_data(n: int) -> Callable[[list[Frame]], bool]:
    return lambda frames: len(data(frames)) >= n


def has_event(name: str, n_data_after: int = 0) -> Callable[[list[Frame]], bool]:
    """Whether the event came, and so many data frames behind it."""

    def enough(frames: list[Frame]) -> bool:
        names = [f.header.meta.get("event") if f.header.kind == "event" else None for f in frames]
        return name in names and len(data(frames[names.index(name) :])) >= n_data_after

    return enough
