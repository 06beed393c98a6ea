"""The control plane: MessagePack requests on one socket, answered by every graph, worker, driver and device.

A request is ``{"v": 1, "verb": "set", "args": {...}}``; the answer ``{"ok": true, "value": ...}`` or
``{"ok": false, "error": "...", "type": "ParamError"}``. Arguments are checked against the method's annotations, so a
bad value is refused with the field's path and its limits.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

import msgpack
import msgspec
import zmq

from hil.block import Node
from hil.errors import ControlError, HilError
from hil.params import params_schema, params_to_plain
from hil.port import Port
from hil.runtime.curve import CurveClient, CurveServer, require_keys

log = logging.getLogger(__name__)

VERSION = 1
#: A request or an answer is at most so long.
MAX_BYTES = 4 * 1024 * 1024


class Deferred:
    """Returned by a handler that answers later, by :meth:`resolve` or :meth:`refuse`."""

    def __init__(self) -> None:
        self._send: Callable[[dict[str, Any]], None] | None = None
        self._answer: dict[str, Any] | None = None

    def resolve(self, value: Any) -> None:
        self._deliver({"ok": True, "value": value})

    def refuse(self, error: str, kind: str = "ControlError") -> None:
        self._deliver({"ok": False, "error": error, "type": kind})

    def attach(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        if self._answer is not None:
            send(self._answer)

    def _deliver(self, answer: dict[str, Any]) -> None:
        self._answer = answer
        if self._send is not None:
            self._send(answer)


Handler = Callable[[str, dict[str, Any]], Any]


class ControlServer:
    """Answers requests by ``handler(verb, args)``; put ``socket`` into a poller, or call :meth:`poll`.

    An error of the project's tree is an answer; any other is logged with its traceback and answered by its text.
    """

    def __init__(
        self,
        handler: Handler,
        endpoint: str = "tcp://127.0.0.1:*",
        *,
        context: zmq.Context[Any] | None = None,
        curve: CurveServer | None = None,
    ) -> None:
        require_keys(endpoint, curve)
        self._handler = handler
        self.socket = (context or zmq.Context.instance()).socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 200)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        try:
            if curve is not None:
                curve.apply(self.socket)
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.socket.close()
            raise ControlError(f"cannot bind the control socket to {endpoint}: {error}; choose another port") from error
        self.endpoint: str = self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def poll(self, timeout_s: float = 0.0) -> int:
        """Answer what waits; return how many requests that were."""
        n = 0
        if not self.socket.poll(int(timeout_s * 1000)):
            return n
        while True:
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return n
            n += 1
            # REQ sockets put an empty part between address and body, DEALER sockets do not.
            self._answer(parts[:-1], parts[-1])

    def close(self) -> None:
        self.socket.close()

    def _answer(self, address: list[bytes], body: bytes) -> None:
        def send(answer: dict[str, Any]) -> None:
            try:
                packed = msgpack.packb(answer)
            except (TypeError, ValueError, OverflowError) as error:
                packed = msgpack.packb(
                    {"ok": False, "error": f"the answer cannot be sent: {error}", "type": "ControlError"}
                )
            self.socket.send_multipart([*address, packed])

        try:
            verb, args = _decode_request(body)
            value = self._handler(verb, args)
        except HilError as error:
            send({"ok": False, "error": str(error), "type": type(error).__name__})
            return
        except Exception as error:
            log.exception("control request failed")
            send({"ok": False, "error": f"{type(error).__name__}: {error}", "type": "ControlError"})
            return
        if isinstance(value, Deferred):
            value.attach(send)
        else:
            send({"ok": True, "value": value})


class ControlClient:
    """Asks a :class:`ControlServer`. A context manager."""

    def __init__(
        self,
        endpoint: str,
        timeout_s: float = 5.0,
        *,
        context: zmq.Context[Any] | None = None,
        curve: CurveClient | None = None,
    ) -> None:
        self.endpoint, self._timeout_s, self._curve = endpoint, timeout_s, curve
        self._context = context or zmq.Context.instance()
        self._socket = self._connect()

    def request(self, verb: str, **args: Any) -> Any:
        """Return the value that the other side answers ``verb`` with.

        Raises:
            ControlError: Refused (with the other side's reason), or not answered in time.
        """
        self._socket.send(msgpack.packb({"v": VERSION, "verb": verb, "args": args}))
        if not self._socket.poll(int(self._timeout_s * 1000)):
            # What arrives later must not be taken for the answer to the next request.
            self._socket.close()
            self._socket = self._connect()
            raise ControlError(
                f"{self.endpoint} did not answer {verb!r} within {self._timeout_s} s: is it running, "
                "and is the address that of a control socket?"
            )
        try:
            answer = msgpack.unpackb(self._socket.recv_multipart()[-1])
            ok = answer["ok"]
        except (ValueError, KeyError, TypeError) as error:
            raise ControlError(f"{self.endpoint}: the answer is not of this protocol: {error}") from error
        if not ok:
            raise ControlError(str(answer.get("error")))
        return answer.get("value")

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        try:
            if self._curve is not None:
                self._curve.apply(socket)
            socket.connect(self.endpoint)
        except zmq.ZMQError as error:
            socket.close()
            raise ControlError(
                f"cannot connect to {self.endpoint!r}: {error}; expected e.g. tcp://127.0.0.1:5555"
            ) from error
        return socket


def _decode_request(body: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = msgpack.unpackb(body, strict_map_key=True)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ControlError(f"the request is not MessagePack: {error}") from error
    if not isinstance(request, dict) or request.get("v") != VERSION:
        raise ControlError(f"expected a map with v={VERSION}, verb and args")
    verb, args = request.get("verb"), request.get("args", {})
    if not isinstance(verb, str) or not isinstance(args, dict) or not all(isinstance(k, str) for k in args):
        raise ControlError("expected verb as text and args as a map with text keys")
    return verb, args


def call_verb(target: object, verbs: Sequence[str], verb: str, args: Mapping[str, Any]) -> Any:
    """Call method ``verb`` of ``target`` with arguments checked against its annotations.

    Raises:
        ControlError: Unknown verb or argument, missing one, or a value beyond its limits; says which.
    """
    if verb not in verbs:
        raise ControlError(f"unknown verb {verb!r}: there are {', '.join(sorted(verbs)) or 'none'}")
    method = getattr(target, verb)
    parameters = inspect.signature(method).parameters
    hints = get_type_hints(method, include_extras=True)
    unknown = set(args) - set(parameters)
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in args]
    if unknown or missing:
        what = f"unknown argument {sorted(unknown)[0]!r}" if unknown else f"argument {missing[0]!r} is missing"
        raise ControlError(f"{verb}: {what}; it takes {', '.join(parameters) or 'no arguments'}")
    converted = {}
    for name, value in args.items():
        try:
            converted[name] = msgspec.convert(value, hints.get(name, Any))
        except msgspec.ValidationError as error:
            text = str(error)
            path = text.partition(" - at `$")[2].rstrip("`") if " - at `$" in text else ""
            raise ControlError(f"{verb}: {text.partition(' - at ')[0]} - at `$.{name}{path}`") from error
    return method(**converted)


def node_verbs(node: object) -> tuple[str, ...]:
    return tuple(getattr(node, "verbs", ()))


def describe(node: Node) -> dict[str, Any]:
    """Return what ``node`` is: class, parameters with values and JSON schema, ports, verbs."""
    return {
        "name": node.name,
        "class": f"{type(node).__module__}:{type(node).__qualname__}",
        "params": params_to_plain(node.params),
        "schema": params_schema(type(node.params)),
        "inputs": {name: _describe_port(port) for name, port in node.inputs.items()},
        "outputs": {name: _describe_port(port) for name, port in node.outputs.items()},
        "verbs": {v: _describe_verb(getattr(node, v)) for v in node_verbs(node)},
    }


def _describe_port(port: Port) -> Any:
    if port.fields is None:
        return "any"
    return {name: {"dtype": f.dtype, "axes": list(f.axes), "unit": f.unit} for name, f in port.fields.items()}


def _describe_verb(method: Callable[..., Any]) -> dict[str, Any]:
    return {
        "args": [str(p).replace("'", "") for p in inspect.signature(method).parameters.values()],
        "doc": (inspect.getdoc(method) or "").partition("\n")[0],
    }
