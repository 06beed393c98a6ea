"""Lets a node ask the control plane while it runs, without waiting: feedback in a graph that has no circles."""

from __future__ import annotations

import os
import queue
import threading
from typing import Any, NamedTuple

from hil.errors import ControlError
from hil.runtime import registry
from hil.runtime.control import ControlClient


class Answer(NamedTuple):
    """What came of a request: a value, or why there is none."""

    verb: str
    value: Any
    error: str | None


class Asker:
    """Asks one control plane, request by request, in a thread of its own.

    Args:
        control: Its address; ``None``: the graph that this process works for, found when the first request is made.
        timeout_s: How long an answer may take.
    """

    def __init__(self, control: str | None = None, timeout_s: float = 5.0) -> None:
        self._control, self._timeout_s = control, timeout_s
        self._requests: queue.SimpleQueue[tuple[str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask(self, verb: str, **args: Any) -> None:
        """Send a request, ``NODE.VERB`` for a node of a graph; its answer is among those of :meth:`answers` later."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="asker")
            self._thread.start()
        self._requests.put((verb, args))

    def answers(self) -> list[Answer]:
        """Answers that have come since the last call."""
        out = []
        while not self._answers.empty():
            out.append(self._answers.get())
        return out

    def close(self) -> None:
        """End the thread, after the requests that were made: the last one may be the one that puts things right."""
        if self._thread is not None:
            self._requests.put(None)
            self._thread.join(self._timeout_s + 1.0)
            self._thread = None

    def _run(self) -> None:
        client: ControlClient | None = None
        try:
            while (request := self._requests.get()) is not None:
                verb, args = request
                try:
                    client = client or ControlClient(self._control or _own_graph(), self._timeout_s)
                    self._answers.put(Answer(verb, client.request(verb, **args), None))
                except ControlError as error:
                    self._answers.put(Answer(verb, None, str(error)))
        finally:
            if client is not None:
                client.close()


def _own_graph() -> str:
    """Address of the control plane of the graph whose supervisor this process, or its parent, is."""
    for note in registry.running():
        if note["kind"] == "graph" and note["pid"] in (os.getpid(), os.getppid()):
            return str(note["control"])
    raise ControlError("this process works for no graph that runs: give the address of a control plane")
