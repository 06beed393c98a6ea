"""One device of several: its driver in a thread, frames in a queue, commands between two reads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from drivers.base import Driver
from hil.errors import ControlError
from hil.frame import Frame

#: How long one read waits; a command waits no longer for its turn.
_READ_S = 0.05
#: Frames that wait to be taken; then the device waits, or overruns and says so.
_WAITING = 64


class DeviceMember:
    """Opens, reads and closes a driver in one thread: what it starts and opens belongs to that thread.

    Args:
        make: Makes the driver.
        name: What the device is called in events and errors.
        go: Reading begins when it is set: all devices are open.
        woken: Set whenever something has come.

    Attributes:
        opened: Set once the driver is open, or has failed.
        failure: What ended it; ``None``: nothing has.
        ended: All frames were taken and no more will come.
    """

    def __init__(self, make: Callable[[], Driver], name: str, go: threading.Event, woken: threading.Event) -> None:
        self.name, self.driver = name, make()
        self.opened = threading.Event()
        self.failure: BaseException | None = None
        self._go, self._woken = go, woken
        self._stop = threading.Event()
        self._frames: queue.Queue[Frame | None] = queue.Queue(_WAITING)
        self._commands: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._done = False
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"device:{name}")
        self._thread.start()

    @property
    def ended(self) -> bool:
        return self._done and self._frames.empty()

    def take(self) -> Frame | None:
        """The next frame, if one waits."""
        try:
            return self._frames.get_nowait()
        except queue.Empty:
            return None

    def call(self, command: Callable[[], Any], timeout_s: float) -> Any:
        """Run ``command`` in the device's thread; return what it returns.

        Raises:
            ControlError: It was not done in time: the device hangs.
        """
        future: Future[Any] = Future()
        self._commands.put((command, future))
        try:
            return future.result(timeout_s)
        except TimeoutError as error:
            raise ControlError(
                f"device {self.name!r} did not come to it within {timeout_s:g} s: it hangs, or has ended"
            ) from error

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()
        self._go.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; false: it hangs in its device."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        driver = self.driver
        try:
            try:
                driver.setup()
                driver.open()
                self.opened.set()
                self._go.wait()
                self._read(driver)
            finally:
                driver.close()
        except BaseException as error:  # whoever takes frames raises it again, in its own thread
            self.failure = error
        finally:
            self._done = True
            self.opened.set()
            self._woken.set()

    def _read(self, driver: Driver) -> None:
        first = next(iter(driver.outputs))
        while not self._stop.is_set():
            self._obey()
            reading = driver.read(_READ_S)
            if reading is None:
                return
            for port, frame in reading:
                if port == first:
                    self._put(frame.copy() if frame.arrays else frame)

    def _put(self, frame: Frame) -> None:
        while not self._stop.is_set():
            try:
                self._frames.put(frame, timeout=_READ_S)
                self._woken.set()
                return
            except queue.Full:
                self._obey()

    def _obey(self) -> None:
        while not self._commands.empty():
            command, future = self._commands.get()
            try:
                future.set_result(command())
            except BaseException as error:  # it is raised where the result is asked for
                future.set_exception(error)
