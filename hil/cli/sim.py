"""``hil sim``: a simulated device as a process of its own."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from hil.cli.families import FAMILIES, Family
from hil.cli.guard import Verbose, guarded
from hil.cli.run import HelpSettings, Json, Set

#: The simulated array on the package's own wire; the other devices speak the protocols of real hardware.
OWN = "xl-array"
DEVICES = (OWN, *FAMILIES)
_LOOPBACK = "tcp://127.0.0.1:*"


@guarded
def sim(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help=f"One of: {', '.join(DEVICES)}.")],
    settings: Set = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="N", help="Where it listens; absent: as real ones do, 0: any free."),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="ADDR", help=f"Where frames are served, of {OWN} only.")
    ] = None,
    control: Annotated[str, typer.Option(metavar="ADDR", help="Where commands are answered.")] = _LOOPBACK,
    config: Annotated[str | None, typer.Option(metavar="FILE", help="Parameters as JSON; --set goes on top.")] = None,
    help_settings: HelpSettings = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Serve a simulated device until Ctrl-C, as its real clients and the drivers find it.

    [bold]xl-array[/bold] serves frames and truth; [bold]ad9361[/bold], [bold]fmcomms5[/bold], [bold]iio[/bold] \
speak libiio's protocol, [bold]usrp[/bold] UHD's, [bold]heimdall[/bold] KrakenSDR's, [bold]gnodeb[/bold] \
OpenAirInterface's T tracer and FAPI, [bold]gnuradio[/bold] and [bold]srsran[/bold] ZeroMQ. The scene of all is \
that of the simulated array: --set device.sources=... replaces the one source that each of these receives. Its samples \
are computed once and repeated; --set loop_ticks=null computes all of them, at lower rates: sources can move, gain acts.

    \b
    [cyan]hil sim xl-array --config scene.json --endpoint tcp://127.0.0.1:5555[/cyan]
    [cyan]hil sim fmcomms5 --port 30431 --set device.frequency_hz=2.45e9[/cyan]
    [cyan]hil sim heimdall --set version=2[/cyan]
    [cyan]hil sim usrp --help-settings[/cyan]
    [cyan]hil ctl fmcomms5 fault kind=drop_connection[/cyan]
    [cyan]hil ctl fmcomms5 move_source id=1 'position_m=[-0.3, 0.9, 0]'[/cyan]
    """
    from hil.errors import GraphError

    if help_settings:
        _print_settings(device)
        return
    if device == OWN:
        if port is not None:
            raise GraphError(f"{OWN} has an address, not a port: give --endpoint tcp://127.0.0.1:{port}")
        _serve_own(settings or (), endpoint or _LOOPBACK, control, config, as_json)
        return
    family = _family(device)
    if endpoint is not None:
        raise GraphError(f"{device} has a port, not an endpoint: give --port N, and --set host=ADDRESS")
    if port is not None and family.port is None:
        raise GraphError(f"{device} has no port to choose, as its clients know it by address: give --set host=ADDRESS")
    _serve_family(device, family, settings or (), port, control, config, as_json)


def _family(device: str) -> Family:
    from hil.errors import GraphError

    if device not in FAMILIES:
        raise GraphError(f"no simulated device {device!r}: there are {', '.join(DEVICES)}")
    return FAMILIES[device]


def _print_settings(device: str) -> None:
    """What ``--set`` takes: of the server, then of the simulated array behind it, and the faults that it can do."""
    from hil.cli.flowgraph import load_object
    from hil.cli.settings import describe_settings
    from hil.cli.settings_table import print_settings_table
    from hil.params import params_type

    array = load_object("sim_device.params:XlArrayParams")
    if device == OWN:
        print_settings_table(describe_settings(array), "The simulated array, docs/sim-device.md.")
        return
    family = _family(device)
    server = _server_class(family)
    given = {**family.settings_for_port(None, {}), **family.with_parameters({})}
    own = [s for s in describe_settings(params_type(server), defaults=given) if s.path != "device"]
    of_array = describe_settings(array, "device.", {**server.device_defaults, **given.get("device", {})})
    print_settings_table([*own, *of_array], (server.__doc__ or "").partition("\n\n")[0])
    sys.stdout.write(f"\nfaults, by hil ctl {device} fault kind=KIND: {', '.join(server.fault_kinds)}\n")


def _serve_own(settings: Sequence[str], endpoint: str, control: str, config: str | None, as_json: bool) -> None:
    from hil.cli.flowgraph import load_object

    def lines(addresses: Mapping[str, Any]) -> list[str]:
        where = addresses["endpoint"]
        return [
            f"{OWN} serves frames at {where} and takes commands at {addresses['control']}",
            f"  hil run FLOWGRAPH --set device.endpoint={where}",
        ]

    with _announced(OWN, lines, as_json) as ready:
        params = load_object("sim_device.serve:read_settings")(config, settings)
        load_object("sim_device.serve:serve")(params, endpoint, control, ready)


def _serve_family(
    device: str,
    family: Family,
    settings: Sequence[str],
    port: int | None,
    control: str,
    config: str | None,
    as_json: bool,
) -> None:
    from hil.cli.flowgraph import load_object

    def lines(addresses: Mapping[str, Any]) -> list[str]:
        where = addresses["uri"]
        return [
            f"{device} is at {where} and takes commands at {addresses['control']}",
            *(f"  {command}" for command in family.commands(where, addresses.get("channels"))),
        ]

    with _announced(device, lines, as_json) as ready:
        params = load_object("sim_device.servers.serve:read_settings")(config, settings)
        params = {**family.settings_for_port(port, params), **family.with_parameters(params)}
        load_object("sim_device.servers.serve:serve")(_server_class(family), params, control, ready)


def _server_class(family: Family) -> Any:
    """The class that serves ``family``: the one in its module ``server`` that says of which family it is."""
    from hil.cli.flowgraph import load_module

    module = load_module(f"{family.server}.server")
    own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    return next(c for c in own if getattr(c, "family", ""))


@contextlib.contextmanager
def _announced(name: str, lines: Callable[[Mapping[str, Any]], list[str]], as_json: bool) -> Any:
    """Give a function that tells where the device is, once it is ready, and notes it for others on this host."""
    from hil.cli.output import write_json
    from hil.runtime import registry

    with contextlib.ExitStack() as stack:

        def ready(addresses: dict[str, Any]) -> None:
            uri = addresses.get("uri") or addresses["endpoint"]
            stack.enter_context(registry.registered(name, addresses["control"], kind="device", uri=uri))
            if as_json:
                write_json(addresses)
            else:
                told = [*lines(addresses), f"  hil ctl {addresses['control']} describe"]
                sys.stdout.write("\n".join(told) + "\n")
                sys.stdout.flush()

        yield ready
