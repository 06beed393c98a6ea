"""The simulated array as a process.

``python -m sim_device.serve array.n=256 'sources=[{"id": 1, "motion": {"kind": "bearing", ...}}]'`` prints one line of
JSON with its addresses and serves until it is told to end, or until its stream has ended and was fetched.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from hil.errors import HilError, ParamError
from hil.params import params_to_plain
from sim_device.params import XlArrayParams
from sim_device.paths import key_of
from sim_device.server import LOOPBACK, DeviceServer

_PR_SET_PDEATHSIG = 1


def serve(
    params: Mapping[str, Any],
    endpoint: str = LOOPBACK,
    control_endpoint: str = LOOPBACK,
    on_ready: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Run a device until SIGTERM or SIGINT, or until its stream has ended and was fetched.

    Args:
        params: Parameters of :class:`~sim_device.device.XlArrayDevice`.
        endpoint: Where frames are served; a port ``*`` is chosen by the system.
        control_endpoint: Where control requests are answered.
        on_ready: Called with ``{"endpoint", "control", "pid"}`` once both sockets are bound.

    Raises:
        HilError: Wrong parameters, or an endpoint that cannot be bound.
    """
    run_until_signal(DeviceServer(params, endpoint, control_endpoint), on_ready)


class Server(Protocol):
    """What has sockets bound and can be run."""

    @property
    def addresses(self) -> dict[str, Any]: ...

    def run(self) -> None: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


def run_until_signal(server: Server, on_ready: Callable[[dict[str, Any]], None] | None) -> None:
    """Run ``server`` until SIGTERM or SIGINT, or until it ends by itself, and close it."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        server.end()

    in_main = threading.current_thread() is threading.main_thread()
    before = {s: signal.signal(s, on_signal) for s in (signal.SIGTERM, signal.SIGINT)} if in_main else {}
    try:
        if on_ready is not None:
            on_ready(server.addresses)
        with threadpool_limits(limits=1):
            server.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        server.close()


def read_settings(config: str | None, settings: Sequence[str]) -> dict[str, Any]:
    """Parameters of the array from a JSON file and ``key=value`` settings on top, see :func:`with_settings`.

    Raises:
        ParamError: The file or a setting cannot be read.
    """
    return with_settings(read_config(config), settings, params_to_plain(XlArrayParams()))


def read_config(config: str | None) -> dict[str, Any]:
    """The JSON object in a file, ``-`` for standard input; none: empty.

    Raises:
        ParamError: It cannot be read.
    """
    if config is None:
        return {}
    try:
        params = json.loads(sys.stdin.read() if config == "-" else Path(config).read_text())
    except (OSError, ValueError) as error:
        raise ParamError(f"--config {config}: {error}") from error
    if not isinstance(params, dict):
        raise ParamError(f"--config {config}: expected a JSON object, got a {type(params).__name__}")
    return params


def with_settings(
    params: Mapping[str, Any], settings: Sequence[str], defaults: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """``params`` with ``key=value`` settings on top; keys are dotted, values JSON or else text.

    A setting inside a group that was not given changes the group in ``defaults`` (``array.n=256``); a ``kind`` begins
    the group anew, so it comes first (``array.kind=ura array.nx=16 array.nz=16``).

    Raises:
        ParamError: A setting cannot be read.
    """
    changed: dict[str, Any] = deepcopy(dict(params))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not key or not equals:
            raise ParamError(f"expected key=value, got {setting!r}")
        *outer, last = key.split(".")
        place: Any = changed
        for depth, name in enumerate(outer):
            if depth == 0 and name not in changed:
                changed[name] = deepcopy(defaults.get(name, {}))
            place = place[key_of(place, name, key)]
        if last == "kind":
            place.clear()
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if not isinstance(place, dict):
            raise ParamError(
                f"{key}: {last!r} lies in a {type(place).__name__}, not in a group; give all of it as JSON"
            )
        place[last] = value
    return changed


def die_with_parent(parent_pid: int) -> None:
    """Let the kernel kill this process when the thread that started it ends, however it ends (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:  # it was gone before
        os.kill(os.getpid(), signal.SIGKILL)


def command_line(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """The command line that all simulated devices have in common."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("settings", nargs="*", metavar="key=value", help=f"parameters, e.g. {example}")
    parser.add_argument(
        "--config", metavar="FILE", help="parameters as JSON, - for standard input; key=value settings go on top"
    )
    parser.add_argument("--control", default=LOOPBACK, help="where control requests are answered (%(default)s)")
    parser.add_argument("--parent", type=int, metavar="PID", help="die when this parent process does")
    return parser


def run_process(parent: int | None, served: Callable[[Callable[[dict[str, Any]], None]], None]) -> int:
    """Serve as a process that prints one line of JSON with its addresses; return the exit status.

    Args:
        parent: Die when this process does.
        served: Serves; is given what to call once the addresses are known.
    """
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    if parent is not None:
        die_with_parent(parent)

    def ready(addresses: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()

    try:
        served(ready)
    except HilError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; return the exit status."""
    parser = command_line(
        "python -m sim_device.serve", "The simulated array as a process.", "array.n=256 real_time=false"
    )
    parser.add_argument("--endpoint", default=LOOPBACK, help="where frames are served (%(default)s)")
    options = parser.parse_args(arguments)

    def served(ready: Callable[[dict[str, Any]], None]) -> None:
        serve(read_settings(options.config, options.settings), options.endpoint, options.control, ready)

    return run_process(options.parent, served)


if __name__ == "__main__":
    raise SystemExit(main())
