"""``hil sim``: a simulated device as a process of its own."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer

from hil.cli.guard import Verbose, guarded
from hil.cli.run import Json, Set

#: Simulated devices by name: modules with ``serve`` and ``read_settings``.
DEVICES = {"xl-array": "sim_device.serve"}


@guarded
def sim(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help=f"One of: {', '.join(DEVICES)}.")],
    settings: Set = None,
    endpoint: Annotated[str, typer.Option(metavar="ADDR", help="Where frames are served.")] = "tcp://127.0.0.1:*",
    control: Annotated[str, typer.Option(metavar="ADDR", help="Where commands are answered.")] = "tcp://127.0.0.1:*",
    config: Annotated[str | None, typer.Option(metavar="FILE", help="Parameters as JSON; --set goes on top.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Serve a simulated device until Ctrl-C: frames and truth on one socket, commands on another.

    \b
    [cyan]hil sim xl-array --config scene.json --endpoint tcp://127.0.0.1:5555[/cyan]
    [cyan]hil run near_field_music --set device.endpoint=tcp://127.0.0.1:5555[/cyan]
    [cyan]hil ctl xl-array inject_fault element=7 kind=dead[/cyan]
    """
    from hil.cli.flowgraph import load_object
    from hil.cli.output import write_json
    from hil.errors import GraphError
    from hil.runtime import registry

    module = DEVICES.get(device)
    if module is None:
        raise GraphError(f"no simulated device {device!r}: there are {', '.join(DEVICES)}")
    with contextlib.ExitStack() as stack:

        def ready(addresses: dict[str, Any]) -> None:
            stack.enter_context(registry.registered(device, addresses["control"], kind="device"))
            if as_json:
                write_json(addresses)
            else:
                sys.stdout.write(
                    f"{device} serves frames at {addresses['endpoint']} and takes commands at {addresses['control']}\n"
                    f"  hil run FLOWGRAPH --set device.endpoint={addresses['endpoint']}\n"
                    f"  hil ctl {addresses['control']} describe\n"
                )
                sys.stdout.flush()

        params = load_object(f"{module}:read_settings")(config, settings or ())
        load_object(f"{module}:serve")(params, endpoint, control, ready)
