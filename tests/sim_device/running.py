"""A device server in a thread of the test, and a client that reads it."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hil.frame import Frame
from hil.runtime.control import ControlClient
from hil.runtime.frame_client import FrameClient
from sim_device.server import DeviceServer


class Running:
    def __init__(self, server: DeviceServer, stack: ExitStack) -> None:
        self.server = server
        self._stack = stack
        self.control = stack.enter_context(ControlClient(server.control.endpoint))

    def client(self, *streams: str) -> FrameClient:
        client = FrameClient(self.server.frames.endpoint, streams=streams)
        self._stack.callback(client.close)
        return client


@contextmanager
def running(**params: object) -> Iterator[Running]:
    server = DeviceServer({"array": {"kind": "ula", "n": 4}, "frame_period_s": 0, **params})
    thread = threading.Thread(target=server.run)
    with ExitStack() as stack:
        stack.callback(server.close)
        stack.callback(thread.join)
        stack.callback(server.end)
        thread.start()
        yield Running(server, stack)


def frames_until_end(client: FrameClient, kinds: tuple[str, ...] = ("data",)) -> Iterator[Frame]:
    """Frames of one stream until its end; fails where nothing comes."""
    while True:
        frame = client.receive(20.0)
        assert frame is not None, "nothing came for 20 s"
        if frame.header.kind == "eof":
            client.release()
            return
        if frame.header.kind in kinds:
            yield frame


def next_data(client: FrameClient) -> Frame:
    return next(frames_until_end(client))
