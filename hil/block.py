"""Blocks: typed ports, typed parameters, three moments.

``__init__`` validates parameters, ``setup`` allocates, ``process`` only computes, ``flush`` gives what is left
at the end of a stream. A block is called directly in tests, ``block(x)``; a runtime calls :meth:`Block.feed`.
Nothing here knows processes or sockets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from hil.array import ArrayGeometry
from hil.descriptor import array_of
from hil.errors import PortError
from hil.frame import NO_LOSS, AnyArray, ArraySpec, Frame, Header, Loss
from hil.params import Params, convert_params, params_to_plain, params_type
from hil.port import Port

#: How many frames an input holds while it waits for its partners.
JOIN_DEPTH = 64


class Out(NamedTuple):
    """What ``process`` returns where the output's header differs from the input's in more than the stream."""

    arrays: AnyArray | Mapping[str, AnyArray]
    changes: Mapping[str, Any] = {}


#: One frame's arrays: the array of a single-array port, or arrays by name.
Payload = AnyArray | Mapping[str, AnyArray] | Out
#: What ``process`` returns: nothing, one payload, a list of them, or a tuple with one of these a port.
Result = Payload | list[Payload] | tuple[Any, ...] | None


class Node:
    """What a graph is made of: a name, parameters, ports."""

    params: Params
    inputs: ClassVar[Mapping[str, Port]] = {}
    outputs: ClassVar[Mapping[str, Port]] = {}

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        self.name = name or type(self).__name__
        self.params = convert_params(params_type(type(self)), params, f"{type(self).__name__} {self.name!r}")

    def sizes(self) -> dict[str, int]:
        """Sizes of axes that the parameters fix; the same on every port of this block."""
        return {}

    def setup(self) -> None:
        """Allocate. Called once before the first frame, and again after parameters were set."""

    def restarted(self) -> None:
        """Called before ``setup`` in a process that takes the place of one that died: go on, do not begin anew."""

    def with_params(self, changes: Mapping[str, Any]) -> Params:
        """Return the parameters with ``changes``, all of them checked; nothing is set.

        Raises:
            ParamError: Names the field's path and its limits.
        """
        merged = {**params_to_plain(self.params), **changes}
        return convert_params(type(self.params), merged, f"{type(self).__name__} {self.name!r}")

    def set_params(self, **changes: Any) -> None:
        """Change parameters while running: all are checked before any is set.

        Raises:
            ParamError: Names the field's path and its limits.
        """
        self.params = self.with_params(changes)
        self.setup()

    def stats(self) -> dict[str, Any]:
        """Plain values that the control plane and the run's summary show for this block."""
        return {}

    def close(self) -> None:
        """Release what ``setup`` or ``open`` took. Called once, also after a failure."""


class Block(Node):
    """Base of all blocks.

    Attributes:
        array: Geometry from the newest descriptor that came in, else ``None``.
        header: Header of the frame being processed (of the first input that is not ``latest``).
        join_tolerance_ns: Frames of several inputs belong together when their times differ by no more.
        on_estimation_error: What an ``EstimationError`` in ``process`` does to the run: ``skip`` the frame, counted
            and told downstream by an event, or ``fail``.
    """

    inputs: ClassVar[Mapping[str, Port]] = {"x": Port.any()}
    join_tolerance_ns: ClassVar[int] = 0
    on_estimation_error: ClassVar[Literal["skip", "fail"]] = "skip"

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self.array: ArrayGeometry | None = None
        self.header = Header(stream=self.name, seq=0)
        self._ready = False
        self._lost: dict[str, Loss] = dict.fromkeys(self.outputs, NO_LOSS)
        self._latest: dict[str, Frame] = {}
        self._waiting: dict[str, deque[Frame]] = {n: deque() for n, p in self.inputs.items() if not p.latest}
        self._passed: dict[str, tuple[tuple[Any, ...], tuple[ArraySpec, ...]]] = {}
        self.n_unmatched = 0

    # -- what a block overrides ------------------------------------------------------------------------------------

    def process(self, *arrays: Any) -> Result:
        """Compute. One argument an input in the order of ``inputs``: the array of a single-array port, else a
        dict of arrays by name; ``None`` for a ``latest`` input that has not come yet."""
        raise NotImplementedError(f"{type(self).__name__} has no process()")

    def flush(self) -> Result:
        """Return what is left when the stream ends."""
        return None

    def on_descriptor(self, frame: Frame, port: str) -> None:
        """The array description came. The base keeps the geometry in ``self.array``."""
        if "array" in frame.header.meta:
            self.array = array_of(frame)

    def on_event(self, frame: Frame, port: str) -> None:
        """An event came (``frame.header.meta["event"]`` says which). It is passed on to all outputs anyway."""

    # -- direct use ------------------------------------------------------------------------------------------------

    def __call__(self, *inputs: AnyArray | Frame | Mapping[str, AnyArray]) -> Any:
        """Process arrays (arrays come back) or frames (a list of ``(port, frame)`` comes back)."""
        if inputs and all(isinstance(x, Frame) for x in inputs):
            out: list[tuple[str, Frame]] = []
            for port_name, frame in zip(self.inputs, inputs, strict=True):
                assert isinstance(frame, Frame)
                out += self.feed(port_name, frame)
            return out
        self.set_up()
        arguments = []
        for (name, port), x in zip(self.inputs.items(), inputs, strict=True):
            arrays: Any = x
            if not isinstance(x, Mapping) and port.fields is not None:
                arrays = {port.single: x}
            if port.fields is not None:
                port.check(arrays, self.sizes(), f"{self.name}.{name}")
            arguments.append(x)
        result = self.process(*arguments)
        return result.arrays if isinstance(result, Out) else result

    # -- what a runtime calls --------------------------------------------------------------------------------------

    def feed(self, port: str, frame: Frame) -> list[tuple[str, Frame]]:
        """Take one frame on ``port``; return the frames that come out, each with its output port."""
        kind = frame.header.kind
        if frame.header.lost != NO_LOSS:
            self.lose(frame.header.lost)
        if kind == "data":
            self.set_up()
            if self.inputs[port].latest:
                self._latest[port] = frame.copy()
                return []
            if len(self._waiting) == 1:
                return self._step({port: frame})
            return self._join(port, frame)
        if kind == "descriptor":
            self.on_descriptor(frame, port)
        elif kind == "event":
            self.on_event(frame, port)
        else:  # the end of one input: the runtime calls finish() when all have ended
            return []
        return [(out, Frame(frame.header.replace(stream=f"{self.name}.{out}"), frame.arrays)) for out in self.outputs]

    def finish(self) -> list[tuple[str, Frame]]:
        """All inputs have ended: return what :meth:`flush` gives."""
        self.set_up()
        return self._emit(self.flush())

    def lose(self, loss: Loss) -> None:
        """Something went missing, upstream or here: the next frame of each output says so."""
        for name, lost in self._lost.items():
            self._lost[name] = lost.plus(loss)

    def told_loss(self, port: str) -> None:
        """A block that fills in ``lost`` itself has told it."""
        self._lost[port] = NO_LOSS

    def untold_loss(self, port: str) -> Loss:
        """What went missing since the last frame that came out of ``port``."""
        return self._lost[port]

    def out_header(self, port: str, arrays: tuple[ArraySpec, ...], changes: Mapping[str, Any]) -> Header:
        """Header of the next frame of output ``port``: the input's, under the output's name."""
        return self.header._replace(
            stream=f"{self.name}.{port}", arrays=arrays, meta={}, lost=self._lost[port]
        )._replace(**changes)

    # -- inside ----------------------------------------------------------------------------------------------------

    def set_up(self) -> None:
        """Call :meth:`setup` unless it was; a runtime does before the first frame."""
        if not self._ready:
            self.setup()
            self._ready = True

    def _join(self, port: str, frame: Frame) -> list[tuple[str, Frame]]:
        """Hold ``frame`` until each other input has one of the same time; drop and count what has no partner."""
        self._waiting[port].append(frame.copy())
        if len(self._waiting[port]) > JOIN_DEPTH:
            self._waiting[port].popleft()
            self.n_unmatched += 1
        out: list[tuple[str, Frame]] = []
        while all(self._waiting.values()):
            newest = max(_join_key(q[0].header) for q in self._waiting.values())
            late = [q for q in self._waiting.values() if _join_key(q[0].header) < newest - self.join_tolerance_ns]
            if late:
                for queue in late:
                    queue.popleft()
                self.n_unmatched += len(late)
            else:
                out += self._step({name: q.popleft() for name, q in self._waiting.items()})
        return out

    def _step(self, frames: Mapping[str, Frame]) -> list[tuple[str, Frame]]:
        self.header = next(iter(frames.values())).header
        arguments: list[Any] = []
        for name, port in self.inputs.items():
            frame = self._latest.get(name) if port.latest else frames[name]
            if frame is None:
                arguments.append(None)
                continue
            where = f"{self.name}.{name}"
            arrays = port.take(frame, where)
            self._checked(where, port, arrays)
            arguments.append(arrays if port.single is None else arrays[port.single])
        return self._emit(self.process(*arguments))

    def _checked(self, where: str, port: Port, arrays: Mapping[str, AnyArray]) -> tuple[ArraySpec, ...]:
        """Check arrays, once for each run of like frames."""
        signature = tuple((n, a.dtype, a.shape) for n, a in arrays.items())
        passed = self._passed.get(where)
        if passed is not None and passed[0] == signature:
            return passed[1]
        specs = port.check(arrays, self.sizes(), where)
        self._passed[where] = (signature, specs)
        return specs

    def _emit(self, result: Result) -> list[tuple[str, Frame]]:
        if result is None:
            return []
        per_port = result if type(result) is tuple else (result,)
        if len(per_port) != len(self.outputs):
            raise PortError(f"{self.name}: process() gave {len(per_port)} outputs, {len(self.outputs)} are declared")
        out: list[tuple[str, Frame]] = []
        for (name, port), payloads in zip(self.outputs.items(), per_port, strict=True):
            if payloads is None:
                continue
            for payload in payloads if isinstance(payloads, list) else (payloads,):
                out.append((name, self._frame(name, port, payload)))
                self.told_loss(name)
        return out

    def _frame(self, name: str, port: Port, payload: Payload) -> Frame:
        arrays, changes = (payload.arrays, payload.changes) if isinstance(payload, Out) else (payload, {})
        where = f"{self.name}.{name}"
        if isinstance(arrays, np.ndarray):
            if port.single is None:
                raise PortError(f"{where}: process() gave one array, the port declares several: return them by name")
            arrays = {port.single: arrays}
        for field, declared in (port.fields or {}).items():
            if field not in arrays and not declared.optional:
                raise PortError(f"{where}: process() gave no array {field!r}")
        return Frame(self.out_header(name, self._checked(where, port, arrays), changes), arrays)


def _join_key(header: Header) -> int:
    if header.time_ns is not None:
        return header.time_ns
    return header.seq if header.sample_start is None else header.sample_start
