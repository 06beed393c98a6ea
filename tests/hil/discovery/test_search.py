"""Searches run side by side, end in time, and what they find is told once."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest

from hil.cli.devices import open_command, place_of, print_devices
from hil.discovery import iio, search, uhd
from hil.discovery.child import ChildFailed, ask_child
from hil.discovery.found import Found
from hil.discovery.search import Place, merged
from hil.errors import GraphError
from tests.hil.cli.running import hil


@pytest.fixture(autouse=True)
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_usrps_as_uhd_tells_them(tmp_path: Path) -> None:
    told = [
        {
            "mgmt_addr": "127.0.0.1",
            "type": "e3xx",
            "product": "e320",
            "serial": "A",
            "name": "sim0",
            "claimed": "False",
        },
        {"addr": "127.0.0.1", "product": "e320", "serial": "A"},  # the same by another way
        {"type": "b200", "serial": "B", "product": "B210", "name": ""},
    ]
    python = program(tmp_path / "python", f"echo '[INFO] [UHD] linux'; echo '{json.dumps(told)}'")
    found = uhd.find(python, ["", "addr=127.0.0.1"], 5.0)
    assert [(f.kind, f.address, f.channels) for f in found] == [
        ("usrp e320", "addr=127.0.0.1", 2),
        ("usrp b210", "serial=B", 2),
    ]


def test_contexts_as_libiio_tells_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that fails does not hide what the others find."""
    program(
        tmp_path / "iio_info",
        """
case "$2" in
  usb) printf 'Available contexts:\\n\\t0: 0456:b673 (Analog Devices Inc. PlutoSDR), serial=10 [usb:1.4.5]\\n';;
  ip) echo 'ERROR: Unable to create Avahi DNS-SD client :Daemon not running' >&2; exit 1;;
esac""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(iio, "ask_uri", lambda uri, timeout_s: None)
    (found,) = iio.scan(3.0)
    assert (found.address, found.driver) == ("usb:1.4.5", "iio") and "PlutoSDR" in found.name


def test_a_child_that_hangs_or_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match=r"no answer in 0\.2 s"):
        ask_child([program(tmp_path / "a", "exec sleep 30")], 0.2)
    with pytest.raises(ChildFailed, match="no module named uhd"):
        ask_child([program(tmp_path / "b", "echo 'no module named uhd' >&2; exit 1")], 5)
    with pytest.raises(ChildFailed, match="No such file"):
        ask_child([str(tmp_path / "c")], 5)


def test_time_is_over_for_all_at_once(tmp_path: Path) -> None:
    python = program(tmp_path / "python", "exec sleep 30")
    start = time.monotonic()
    searched = search.search(
        [Place("127.0.0.1", 1), Place(driver="uhd", address="addr=x")], lambda: python, 1.0, wide=False
    )
    assert time.monotonic() - start < 20  # the child alone would take 30
    assert searched.found == [] and "no answer" in searched.problems["uhd"]


def test_without_uhd_the_package_is_named() -> None:
    searched = search.search([Place(driver="uhd", address="addr=x")], lambda: None, 5.0, wide=False)
    assert "python3-uhd" in searched.problems["uhd"]


def test_one_entry_a_device() -> None:
    by_protocol = Found("heimdall 1", "heimdall://127.0.0.1", "heimdall", 5, "k5", {"frequency_hz": 1})
    by_note = Found(
        "heimdall", "heimdall://127.0.0.1:5000?version=1&control=5001", None, 5, "hil sim heimdall", {"pid": 1}, True
    )
    other = Found("iio", "ip:127.0.0.1", "iio", 2)
    one, two = merged([by_note, other, by_protocol])
    assert one.simulated and one.kind == "heimdall 1" and one.address == by_note.address
    assert one.details == {"frequency_hz": 1, "pid": 1}
    assert two == other and not two.simulated


def test_the_ports_of_one_device_are_one_entry() -> None:
    """srsRAN's radio has a socket a channel; a search meets each of them."""
    sockets = [Found("ZeroMQ REP", f"tcp://127.0.0.1:{port}", None) for port in (2000, 2001, 2002)]
    radio = Found("srsran", "srsran://127.0.0.1:2000,2001", None, 2, "hil sim srsran", simulated=True)
    assert [one.address for one in merged([*sockets, radio])] == [radio.address, "tcp://127.0.0.1:2002"]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["ad9361-phy", "cf-ad9361-lpc"], "iio ad9361"),
        (["ad9361-phy", "cf-ad9361-A", "ad9361-phy-B"], "iio fmcomms5"),
        (["hil-array-adc"], "iio"),
    ],
)
def test_kinds_of_radios_behind_iiod(names: list[str], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"name": "board", "receivers": {"adc": 2}, "names": names}
    monkeypatch.setattr(iio, "ask_child", lambda command, timeout_s: told)
    found = iio.ask_uri("ip:h", 1.0)
    assert found is not None and found.kind == kind


def test_what_a_device_says_is_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    details = {"receivers": {"adc-a": 2, "adc-b": 4}, "frequency_hz": 2.4e9, "sample_rate_hz": 1e6, "claimed": "True"}
    print_devices(search.Searched([Found("x", "ip:h", "iio", 4, "N", details)], {}))
    assert "N, adc-a and adc-b, 2400 MHz, 1 MS/s, in use" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("192.168.2.1", Place("192.168.2.1")),
        ("krakensdr.local", Place("krakensdr.local")),
        ("gnb.lan:2021", Place("gnb.lan", 2021)),
        ("[::1]:5000", Place("::1", 5000)),
        ("ip:192.168.2.1", Place(driver="iio", address="ip:192.168.2.1")),
        ("addr0=1.2.3.4,addr1=1.2.3.5", Place(driver="uhd", address="addr0=1.2.3.4,addr1=1.2.3.5")),
        ("heimdall://kraken", Place("kraken", 5000)),
        ("tcp://10.0.0.1:5555", Place("10.0.0.1", 5555)),
    ],
)
def test_where_a_word_points(word: str, place: Place) -> None:
    assert place_of(word) == place


@pytest.mark.parametrize("word", ["host:port", "a/b", "http://", "host:99999"])
def test_words_that_point_nowhere(word: str) -> None:
    with pytest.raises(GraphError, match="expected HOST"):
        place_of(word)


def test_how_to_open() -> None:
    assert (
        open_command(Found("iio", "ip:1.2.3.4", "iio")) == "hil record --driver iio --uri ip:1.2.3.4 run.mcap --for 10"
    )
    assert "--driver oai_tracer" in str(open_command(Found("gnodeb", "tcp://h:2021", None)))
    assert open_command(Found("ZeroMQ REP", "tcp://h:2000", None)) is None
    srsran = Found("srsran", "srsran://h:2000", None)
    assert str(open_command(srsran)).endswith("--for 10 --set frequency_hz=HZ")
    assert str(open_command(srsran._replace(simulated=True))).endswith("--for 10 --set frequency_hz=3.5e9")


def test_nothing_found_is_helped() -> None:
    result = hil("devices", "127.0.0.1:1", "--timeout", "2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("nothing was found at 127.0.0.1:1. ")
    assert "hil sim ad9361" in result.stdout and "hil doctor" in result.stdout
    told = json.loads(hil("devices", "127.0.0.1:1", "--json").stdout)
    assert told == {"devices": [], "problems": {}}
    assert hil("devices", "a/b").exit_code == 1
