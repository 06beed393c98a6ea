"""The families of devices: what each is called, where real ones listen, which programs and drivers talk to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

#: Where version 2 of heimdall gives its data.
_HEIMDALL_2 = 8091


class Family(NamedTuple):
    """One family of devices.

    Attributes:
        server: Module of the simulated one.
        driver: Name of the driver, as ``hil record --driver`` takes it.
        port: Where a real one listens; ``None`` where the family has no port to choose.
        parameters: Of the simulated one, that make it this member of the family.
        clients: Commands of real clients; ``{uri}``, ``{host}`` and ``{port}`` stand for where the device is.
        flowgraph: A receiver for it, by name.
    """

    server: str
    driver: str
    port: int | None
    parameters: Mapping[str, Any] = {}
    clients: tuple[str, ...] = ()
    flowgraph: str | None = None

    def settings_for_port(self, port: int | None, given: Mapping[str, Any]) -> dict[str, int]:
        """Parameters that put the simulated one at ``port``; absent: where real ones are, 0: wherever is free."""
        if port is None:
            port = _HEIMDALL_2 if self.driver == "heimdall" and given.get("version") == 2 else self.port
        if port is None:
            return {}
        if self.driver == "heimdall":  # commands have a port of their own, the next one
            return {"port": port, "control_port": port + 1 if port else 0}
        return {"port": port}

    def commands(self, uri: str) -> list[str]:
        """How to talk to a device at ``uri``, to be copied: with clients of its own, and with this package."""
        host, _, port = uri.removeprefix("ip:").rpartition(":")
        if "://" in uri:
            host, _, port = urlsplit(uri).netloc.rpartition(":")
            port = port.partition(",")[0]
        own = [command.format(uri=uri, host=host, port=port) for command in self.clients]
        return [*own, record_command(self.driver, uri)]


def record_command(driver: str, uri: str) -> str:
    """``hil record`` of a live device, to be copied."""
    return f"hil record --driver {driver} --uri {quoted(uri)} run.mcap --for 10"


def quoted(uri: str) -> str:
    """An address as a shell takes it."""
    return f"'{uri}'" if set(uri) & set("?&;, *$") else uri


#: The families by the name that ``hil sim`` takes.
FAMILIES = {
    "ad9361": Family(
        "sim_device.servers.iiod",
        "iio",
        30431,
        {"model": "ad9361"},
        (
            "iio_info -u {uri}",
            "iio_readdev -u {uri} -b 4096 -s 4096 cf-ad9361-lpc voltage0 voltage1 > samples.bin",
            "python -c \"import adi; print(adi.ad9361('{uri}').rx())\"",
        ),
        "live_iio",
    ),
    "fmcomms5": Family(
        "sim_device.servers.iiod",
        "iio",
        30431,
        {"model": "fmcomms5"},
        ("iio_info -u {uri}", "python -c \"import adi; print(adi.FMComms5('{uri}').rx())\""),
        "live_iio",
    ),
    "iio": Family("sim_device.servers.iiod", "iio", 30431, {"model": "iio"}, ("iio_info -u {uri}",), "live_iio"),
    "usrp": Family(
        "sim_device.servers.usrp",
        "uhd",
        None,
        clients=("uhd_find_devices --args '{uri}'", "uhd_usrp_probe --args '{uri}'"),
        flowgraph="live_uhd",
    ),
    "heimdall": Family(
        "sim_device.servers.heimdall",
        "heimdall",
        5000,
        clients=("# krakensdr_doa: DAQ IP address {host}, data port {port}",),
        flowgraph="live_heimdall",
    ),
    "gnodeb": Family(
        "sim_device.servers.gnodeb",
        "oai_tracer",
        2021,
        clients=("./record -d T_messages.txt -ip {host} -p {port} -on GNB_PHY_UL_FREQ_CHANNEL_ESTIMATE -o trace.raw",),
        flowgraph="gnodeb_aoa",
    ),
    "gnuradio": Family(
        "sim_device.servers.gnuradio",
        "gnuradio",
        5555,
        clients=("# GNU Radio: ZMQ SUB Source, address tcp://{host}:{port}, vector length and tags as above",),
    ),
    "srsran": Family(
        "sim_device.servers.srsran",
        "srsran",
        2000,
        clients=("# srsRAN: device_driver zmq, device_args rx_port=tcp://{host}:{port}",),
    ),
}
