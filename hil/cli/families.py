"""The families of devices: what each is called, where real ones listen, which programs and drivers talk to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

#: Where version 2 of heimdall gives its data.
_HEIMDALL_2 = 8091


def _scene(motion: Mapping[str, Any], **device: Any) -> dict[str, Any]:
    """Parameters of a simulated device that receives one source, 20 dB above the noise.

    A period of samples is computed once and repeated, so that it keeps up with its clients on any host.
    """
    return {"loop_ticks": 65536, "device": {"sources": [{"id": 1, "power_db": -20.0, "motion": motion}], **device}}


#: In the near field of a line of some elements at 2.45 GHz, and in the far field of a circle at 434 MHz.
_STAND = {"kind": "stand", "position_m": [0.4, 1.1, 0.0]}
_BEARING = {"kind": "bearing", "azimuth_rad": math.radians(40.0), "range_m": 500.0}
#: Where the flowgraphs of these radios tune them, so that lines of half a wavelength are the same on both sides.
_NEAR = _scene(_STAND, frequency_hz=2.45e9)


class Family(NamedTuple):
    """One family of devices.

    Attributes:
        server: Module of the simulated one.
        driver: Name of the driver, as ``hil record --driver`` takes it.
        port: Where a real one listens; ``None`` where the family has no port to choose.
        parameters: Of the simulated one: what makes it this member of the family, and what it receives.
        clients: Commands of real clients; ``{uri}``, ``{host}`` and ``{port}`` stand for where the device is.
        receiver: A flowgraph for it, and the settings that tell it where the device is (``{uri}``) and how many
            channels that has (``{channels}``).
        record_settings: What the driver has to be told of a device of this family, as the protocol does not.
    """

    server: str
    driver: str
    port: int | None
    parameters: Mapping[str, Any] = {}
    clients: tuple[str, ...] = ()
    receiver: str | None = None
    record_settings: tuple[str, ...] = ()

    def settings_for_port(self, port: int | None, given: Mapping[str, Any]) -> dict[str, int]:
        """Parameters that put the simulated one at ``port``; absent: where real ones are, 0: wherever is free."""
        if port is None:
            port = _HEIMDALL_2 if self.driver == "heimdall" and given.get("version") == 2 else self.port
        if port is None:
            return {}
        if self.driver == "heimdall":  # commands have a port of their own, the next one
            return {"port": port, "control_port": port + 1 if port else 0}
        return {"port": port}

    def with_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of the simulated one: ``given``, and this family's where they say nothing."""
        device = {**self.parameters.get("device", {}), **given.get("device", {})}
        return {**self.parameters, **given, **({"device": device} if device else {})}

    def commands(self, uri: str, channels: int | None = None) -> list[str]:
        """How to talk to a device at ``uri``, to be copied: with clients of its own, and with this package."""
        host, _, port = uri.removeprefix("ip:").rpartition(":")
        if "://" in uri:
            host, _, port = urlsplit(uri).netloc.rpartition(":")
            port = port.partition(",")[0]
        own = [command.format(uri=uri, host=host, port=port) for command in self.clients]
        receivers = []
        if self.receiver is not None and channels is not None:
            receivers = [f"hil run {self.receiver.format(uri=quoted(uri), channels=channels)}"]
        return [*own, *receivers, record_command(self.driver, uri, self.record_settings)]


def record_command(driver: str, uri: str, settings: Sequence[str] = ()) -> str:
    """``hil record`` of a live device, to be copied."""
    words = ["hil record --driver", driver, "--uri", quoted(uri), "run.mcap --for 10"]
    return " ".join([*words, *(f"--set {setting}" for setting in settings)])


def quoted(uri: str) -> str:
    """An address as a shell takes it."""
    return f"'{uri}'" if set(uri) & set("?&;, *$") else uri


_LIVE_IIO = "live_iio --set radio.uri={uri} --set radio.array.n={channels}"

#: The families by the name that ``hil sim`` takes.
FAMILIES = {
    "ad9361": Family(
        "sim_device.servers.iiod",
        "iio",
        30431,
        {"model": "ad9361", **_NEAR},
        (
            "iio_info -u {uri}",
            "iio_readdev -u {uri} -b 4096 -s 4096 cf-ad9361-lpc voltage0 voltage1 > samples.bin",
            "python -c \"import adi; print(adi.ad9361('{uri}').rx())\"",
        ),
        _LIVE_IIO,
    ),
    "fmcomms5": Family(
        "sim_device.servers.iiod",
        "iio",
        30431,
        {"model": "fmcomms5", **_NEAR},
        ("iio_info -u {uri}", "python -c \"import adi; print(adi.FMComms5('{uri}').rx())\""),
        _LIVE_IIO,
    ),
    "iio": Family(
        "sim_device.servers.iiod",
        "iio",
        30431,
        {"model": "iio", **_scene(_STAND, frequency_hz=2.45e9, array={"kind": "ula", "n": 8})},
        ("iio_info -u {uri}",),
        _LIVE_IIO,
    ),
    "usrp": Family(
        "sim_device.servers.usrp",
        "uhd",
        None,
        _NEAR,
        ("uhd_find_devices --args '{uri}'", "uhd_usrp_probe --args '{uri}'"),
        "live_uhd --set radio.uri={uri} --set radio.array.n={channels}",
    ),
    "heimdall": Family(
        "sim_device.servers.heimdall",
        "heimdall",
        5000,
        _scene(_BEARING),
        ("# krakensdr_doa: DAQ IP address {host}, data port {port}",),
        "live_heimdall --set kraken.uri={uri}",
    ),
    "gnodeb": Family(
        "sim_device.servers.gnodeb",
        "oai_tracer",
        2021,
        clients=("./record -d T_messages.txt -ip {host} -p {port} -on GNB_PHY_UL_FREQ_CHANNEL_ESTIMATE -o trace.raw",),
        receiver="gnodeb_aoa --set feed.uri={uri}",
    ),
    "gnuradio": Family(
        "sim_device.servers.gnuradio",
        "gnuradio",
        5555,
        _NEAR,
        clients=("# GNU Radio: ZMQ SUB Source, address tcp://{host}:{port}, vector length and tags as above",),
        record_settings=("frequency_hz=2.45e9",),
    ),
    "srsran": Family(
        "sim_device.servers.srsran",
        "srsran",
        2000,
        _scene(_STAND),
        ("# srsRAN: device_driver zmq, device_args rx_port=tcp://{host}:{port}",),
        record_settings=("frequency_hz=3.5e9",),
    ),
}
