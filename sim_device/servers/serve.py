"""A protocol server as a process: ``python -m sim_device.servers.FAMILY key=value ...`` prints one line of JSON with
its addresses and serves until it is told to end.

A family's package has a ``__main__`` of two lines that calls :func:`main`, so that a driver which embeds its device,
and ``hil sim``, start all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hil.params import params_to_plain
from sim_device.params import XlArrayParams
from sim_device.serve import command_line, read_config, run_process, run_until_signal, with_settings
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
    run_until_signal(server_class(params, control_endpoint), on_ready)


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
    parser = command_line(
        f"python -m sim_device.servers.{family}",
        (server_class.__doc__ or "").partition("\n")[0],
        "device.frequency_hz=2.4e9",
    )
    options = parser.parse_args(arguments)

    def served(ready: Callable[[dict[str, Any]], None]) -> None:
        serve(server_class, read_settings(options.config, options.settings), options.control, ready)

    return run_process(options.parent, served)
