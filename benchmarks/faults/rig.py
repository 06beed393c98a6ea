"""A simulated device in a process of its own, that can be killed and started again, and a driver that reads it."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from benchmarks.faults.truth import Seen, Truth
from drivers.base import Driver
from drivers.embedded import EmbeddedDevice
from hil.runtime.control import ControlClient

#: How long a device may take to start, and to answer.
START_S, _ANSWER_S = 120.0, 20.0
_READ_S = 0.05


class Device:
    """The process of a device.

    Args:
        module: Python module to run.
        params: Its parameters, with fixed addresses: it is started again with the same.
    """

    def __init__(self, module: str, params: Mapping[str, Any]) -> None:
        self._module, self._params = module, params
        self._process: EmbeddedDevice | None = None
        self.addresses: dict[str, Any] = {}

    def start(self) -> None:
        """Start it and wait until it serves."""
        self._process = EmbeddedDevice(self._module, self._params)
        addresses = self._process.addresses(START_S)
        if addresses is None:
            raise RuntimeError(f"{self._module} did not start: {self._process.last_words()}")
        self.addresses = addresses

    def ask(self, verb: str, **args: Any) -> Any:
        with ControlClient(self.addresses["control"], _ANSWER_S) as control:
            return control.request(verb, **args)

    def kill(self) -> None:
        """Let it end as by a power cut."""
        os.kill(int(self.addresses["pid"]), signal.SIGKILL)

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


class Reader(threading.Thread):
    """Opens a driver, reads it, and calls its verbs between reads, as the runtime's worker does.

    Attributes:
        seen: What came, in order of arrival.
        failure: What ended it, if anything did.
    """

    def __init__(self, driver: Driver, truth: Truth) -> None:
        super().__init__(name="reader", daemon=True)
        self.driver, self._truth = driver, truth
        self.seen: list[Seen] = []
        self.failure: BaseException | None = None
        self._commands: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._ending = threading.Event()

    def run(self) -> None:
        try:
            self.driver.open()
            while not self._ending.is_set():
                self._obey()
                for port, frame in self.driver.read(_READ_S) or ():
                    if port == "truth":
                        continue
                    now = time.monotonic()
                    data = frame.header.kind == "data"
                    self.seen.append(self._truth.look(now, frame) if data else Seen(now, frame.header))
        except BaseException as error:
            self.failure = error  # whoever waits for frames raises it
        finally:
            self.driver.close()

    def call(self, command: Callable[[], Any]) -> Future[Any]:
        """Run ``command`` between two reads."""
        future: Future[Any] = Future()
        self._commands.put((command, future))
        return future

    def close(self) -> None:
        self._ending.set()
        self.join(30.0)

    def _obey(self) -> None:
        while not self._commands.empty():
            command, future = self._commands.get()
            try:
                future.set_result(command())
            except Exception as error:
                future.set_exception(error)
