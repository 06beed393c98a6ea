"""Drivers by name, and by the address of what they read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.cli.families import FAMILIES
from hil.cli.load_source import driver_names, driver_of, make_source, make_source_at
from hil.errors import GraphError, ParamError
from tests.hil.cli.running import hil

#: Drivers of live devices.
LIVE = {"fapi", "gnuradio", "heimdall", "iio", "oai_tracer", "srsran", "uhd", "xl_array"}


def test_every_live_driver_has_a_short_name() -> None:
    names = driver_names()
    assert set(names) >= LIVE
    assert not {"base", "live", "paced", "replay"} & set(names)


@pytest.mark.parametrize(
    ("address", "driver"),
    [
        ("ip:192.168.2.1", "iio"),
        ("ip:pluto.local:30431", "iio"),
        ("usb:1.4.5", "iio"),
        ("addr0=192.168.10.2,addr1=192.168.20.2", "uhd"),
        ("type=b200", "uhd"),
        ("heimdall://krakensdr.local", "heimdall"),
        ("heimdall://10.0.0.3:8091?version=2&control=8092", "heimdall"),
        ("gnuradio://127.0.0.1:5555?socket=sub&vlen=4", "gnuradio"),
        ("udp://0.0.0.0:50011", "fapi"),
        ("tcp://127.0.0.1:5555", "xl_array"),
        ("iio", None),
        ("drivers.iio:Iio", None),
    ],
)
def test_an_address_says_its_driver(address: str, driver: str | None) -> None:
    assert driver_of(address) == driver


@pytest.mark.parametrize("driver", sorted(LIVE - {"xl_array"}))
def test_the_address_goes_to_the_driver(driver: str) -> None:
    uris = {"gnuradio": "tcp://127.0.0.1:5555", "srsran": "tcp://127.0.0.1:2000", "uhd": "addr=127.0.0.1"}
    source = make_source_at("device", driver, uris.get(driver, "heimdall://127.0.0.1"), ["connect_timeout_s=3"])
    assert source.params.uri == uris.get(driver, "heimdall://127.0.0.1")  # type: ignore[attr-defined]
    assert source.params.connect_timeout_s == 3  # type: ignore[attr-defined]


def test_families_are_names_too() -> None:
    for name, family in FAMILIES.items():
        if family.driver in ("iio", "heimdall", "oai_tracer"):
            source = make_source_at("device", name, "heimdall://127.0.0.1", [])
            assert type(source).__module__ == f"drivers.{family.driver}"


def test_the_old_ways_stay() -> None:
    assert make_source("device", "tcp://127.0.0.1:5555", []).params.endpoint == "tcp://127.0.0.1:5555"  # type: ignore[attr-defined]
    assert type(make_source("device", "xl-array", ["embedded=true"])).__name__ == "XlArray"
    assert type(make_source("device", "drivers.xl_array:XlArray", ["embedded=true"])).__name__ == "XlArray"


def test_refusals() -> None:
    with pytest.raises(GraphError, match=r"no driver 'heimdal', did you mean heimdall\? there are .*iio.*ip:host"):
        make_source("device", "heimdal", [])
    with pytest.raises(GraphError, match=r"which driver reads 'somewhere'\? give --driver NAME: .*fapi, "):
        make_source_at("device", None, "somewhere", [])
    with pytest.raises(GraphError, match=r"driver 'table' has no address: it takes "):
        make_source_at("device", "table", "ip:1.2.3.4", [])
    with pytest.raises(ParamError, match="uri"):
        make_source_at("device", "iio", None, [])
    with pytest.raises(GraphError, match=r"hil\.source\.Source"):
        make_source("device", "hil.frame:Frame", [])


def test_settings_of_a_driver_are_listed() -> None:
    text = hil("record", "--driver", "iio", "--help-settings").stdout
    assert "gain_mode" in text and "a device silent for so long counts as gone" in text
    assert "oai_tracer" in hil("record", "--help-settings").stderr
    assert "got nothing" in hil("record").stderr


def test_record_wants_each_thing_once(tmp_path: Path) -> None:
    path = str(tmp_path / "a.mcap")
    for words in ((path,), ("xl-array", path, "more"), ("xl-array", path, "--driver", "iio"), ("--driver", "iio")):
        result = hil("record", *words)
        assert result.exit_code in (1, 2) and not Path(path).exists()
    assert "SOURCE PATH, or PATH with --driver and --uri" in hil("record", path).stderr


def test_what_a_device_cannot_be_reached_at_is_said(tmp_path: Path) -> None:
    result = hil("record", "--uri", "heimdall://127.0.0.1:1", str(tmp_path / "a.mcap"), "--for", "5")
    assert result.exit_code == 1 and "127.0.0.1:1" in result.stderr
