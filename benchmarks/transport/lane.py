"""Two processes and a carrier between them, measured in rounds on request and asleep in between."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.transport.carriers import consumer, producer
from benchmarks.transport.payload import N_PAYLOADS, Checker, payloads

_TIMEOUT_S = 60.0


class Lane:
    """A producer and a consumer process. A context manager.

    Args:
        kind: The carrier, see :func:`benchmarks.transport.carriers.producer`.
        n_bytes: Of a frame.
    """

    def __init__(self, kind: str, n_bytes: int) -> None:
        self.kind, self.n_bytes = kind, n_bytes
        base = Path("/dev/shm") if kind == "ring" else None
        self._directory = Path(tempfile.mkdtemp(prefix="hil-bench-", dir=base))
        name = f"hil-bench-{os.getpid()}-{self._directory.name[-8:]}"
        spawn = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        for role in (_produce, _consume):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=role, args=(theirs, kind, name, self._directory, n_bytes), daemon=True)
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)
        self._name = name
        endpoint = self._hear(0)
        self._ends[1].send(endpoint)
        self._hear(1)

    def throughput(self, n_frames: int) -> float:
        """Send ``n_frames`` as fast as they are taken; return bytes a second at the consumer."""
        seconds = self._round(("throughput", n_frames))
        return float((n_frames - 1) * self.n_bytes / seconds)

    def latency(self, n_frames: int, rate_hz: float) -> list[float]:
        """Send ``n_frames`` at ``rate_hz``; return for each the seconds from before it was sent to its view."""
        return list(self._round(("latency", n_frames, rate_hz)))

    def pids(self) -> list[int]:
        return [p.pid for p in self._processes if p.pid is not None]

    def close(self) -> None:
        for end in self._ends:
            try:
                end.send(None)
            except OSError:
                continue  # its process has gone
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        for end in self._ends:
            end.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        for path in Path("/dev/shm").glob(f"{self._name}.*"):
            path.unlink(missing_ok=True)

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _round(self, command: tuple[Any, ...]) -> Any:
        self._ends[1].send(command)
        self._hear(1)  # it listens
        self._ends[0].send(command)
        result = self._hear(1)
        self._hear(0)
        return result

    def _hear(self, end: int) -> Any:
        if not self._ends[end].poll(_TIMEOUT_S):
            raise TimeoutError(f"the {('producer', 'consumer')[end]} of {self.kind} said nothing for {_TIMEOUT_S} s")
        kind, value = self._ends[end].recv()
        if kind == "failed":
            raise RuntimeError(f"{self.kind}, {self.n_bytes} bytes: {value}")
        return value


def _produce(line: Connection, kind: str, name: str, directory: Path, n_bytes: int) -> None:
    try:
        arrays = payloads(n_bytes)
        carrier = producer(kind, name, directory, n_bytes)
        line.send(("ready", carrier.endpoint))
        seq = 0
        while (command := line.recv()) is not None:
            numbers = range(seq, seq + command[1])
            if command[0] == "throughput":
                for frame in [carrier.make(k, arrays[k % N_PAYLOADS], 0) for k in numbers]:
                    carrier.send(frame)
            else:
                due = time.perf_counter()
                for k in numbers:
                    due += 1 / command[2]
                    time.sleep(max(0.0, due - time.perf_counter()))
                    carrier.send(carrier.make(k, arrays[k % N_PAYLOADS], time.perf_counter_ns()))
            seq = numbers.stop
            carrier.drain()
            line.send(("done", None))
        carrier.close()
    except Exception:
        line.send(("failed", traceback.format_exc()))


def _consume(line: Connection, kind: str, name: str, directory: Path, n_bytes: int) -> None:
    try:
        carrier = consumer(kind, name, directory, n_bytes, line.recv())
        checker = Checker(n_bytes)
        line.send(("ready", None))
        while (command := line.recv()) is not None:
            line.send(("listening", None))
            latencies_s = []
            first = last = 0
            for _ in range(command[1]):
                frame = carrier.receive()
                last = time.perf_counter_ns()
                first = first or last
                if command[0] == "latency":
                    latencies_s.append((last - frame.sent_ns) / 1e9)
                checker.check(frame.seq, frame.array)
                del frame
                carrier.release()
            line.send(("result", latencies_s if command[0] == "latency" else (last - first) / 1e9))
        carrier.close()
    except Exception:
        line.send(("failed", traceback.format_exc()))
