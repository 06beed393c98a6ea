"""A protocol server as a process: ``python -m sim_device.servers.FAMILY key=value ...`` prints one line of JSON with
its addresses and serves until it is told to end.

A family's package has a ``__main__`` of two lines that calls :func:`main`, so that a driver which embeds its device,
and ``hil sim``, start all of them alike.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from threadpoolctl import threadpool_limits

from hil.errors import HilError
from hil.params import params_to_plain
from sim_device.params import XlArrayParams
from sim_device.serve import die_with_parent, read_config, with_settings
from sim_device.server import LOOPBACK
from sim_device.servers.protocol_server import ProtocolServer


def serve(
    server_class: type[ProtocolServer],
    params: Mapping[str, Any],
    control_endpoint: str = LOOPBACK,
    on_ready: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Run a server until SIGTERM or SIGINT.

    Raises:
        HilError: Wrong parameters, or an address that cannot be bound.
    """
    server = server_class(params, control_endpoint)

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
    """Parameters of a server from a JSON file and ``key=value`` settings; those of the array are ``device.*``.

    Raises:
        ParamError: The file or a setting cannot be read.
    """
    prefix = "device."
    of_array = [s.removeprefix(prefix) for s in settings if s.startswith(prefix)]
    params = with_settings(read_config(config), [s for s in settings if not s.startswith(prefix)])
    if of_array:
        params["device"] = with_settings(params.get("device", {}), of_array, params_to_plain(XlArrayParams()))
    return params


def main(server_class: type[ProtocolServer], arguments: Sequence[str] | None = None) -> int:
    """Serve; return the exit status."""
    family = server_class.family
    parser = argparse.ArgumentParser(
        prog=f"python -m sim_device.servers.{family}", description=(server_class.__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="parameters, e.g. device.frequency_hz=2.4e9")
    parser.add_argument(
        "--config", metavar="FILE", help="parameters as JSON, - for standard input; key=value settings go on top"
    )
    parser.add_argument("--control", default=LOOPBACK, help="where control requests are answered (%(default)s)")
    parser.add_argument("--parent", type=int, metavar="PID", help="die when this parent process does")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    if options.parent is not None:
        die_with_parent(options.parent)

    def ready(addresses: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()

    try:
        serve(server_class, read_settings(options.config, options.settings), options.control, ready)
    except HilError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0
