"""The IIO driver against the simulated devices: samples, settings, epochs, what goes wrong, and what is said of it."""

import errno
import os
import sys
import time

import numpy as np
import pytest

from drivers.iio import Iio
from drivers.iio_control import _limits, _number, _taken
from drivers.iio_library import IioTrouble, import_libiio, probe, why
from hil.errors import ControlError, DriverError, ParamError
from tests.sim_device.servers.iiod_running import expected_counts, free_port, running_iiod

pytest.importorskip("adi", reason="pip install 'hil-receiver[iio]'")

SOURCE = {"id": 1, "motion": {"kind": "stand", "position_m": [3.0, 20.0, 0.0]}, "power_db": -10.0}


@pytest.fixture
def radio(request):
    """``make(server, **params)``: a driver that is open, and closed at the end."""

    def make(server, **params):
        driver = Iio("radio", uri=server.uri, **{"n_samples": 256, "poll_s": 0.01, "silence_s": 1.0, **params})
        request.addfinalizer(driver.close)
        driver.open()
        return driver

    return make


def frames(driver, n, kind="data"):
    """The next ``n`` frames of a kind, and all that came before the last of them."""
    seen, found, end = [], [], time.monotonic() + 20
    while len(found) < n:
        assert time.monotonic() < end, seen
        for _, frame in driver.read(0.5):
            seen.append(frame)
            if frame.header.kind == kind and len(found) < n:
                found.append(frame)
    return found, seen


def until(driver, event):
    """Read on until an event; return it and all events before."""
    seen, end = [], time.monotonic() + 20
    while time.monotonic() < end:
        for _, frame in driver.read(0.2):
            if frame.header.kind == "event":
                seen.append(frame.header)
                if frame.header.meta["event"] == event:
                    return frame.header, seen
    raise AssertionError(f"no {event} in {seen}")


# -- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "device", "bits", "n"),
    [
        ("ad9361", {}, 12, 2),
        ("fmcomms5", {}, 12, 4),
        ("iio", {"array": {"kind": "ula", "n": 24}}, 16, 24),
        ("iio", {"array": {"kind": "ula", "n": 256}}, 16, 256),
    ],
)
def test_frames_are_the_samples_of_the_sample_function(radio, model, device, bits, n):
    with running_iiod(model=model, device={"sources": [SOURCE], **device}) as server:
        driver = radio(server)
        data, seen = frames(driver, 3)
        driver.close()
        expected = expected_counts(server, 0, 768, bits)
    assert seen[0].header.kind == "descriptor"
    assert seen[0].header.meta["raw"] == {"full_scale": float(1 << (bits - 1)), "offset": 0.0}
    assert np.array_equal(np.concatenate([f["iq"] for f in data]), expected)
    header = data[1].header
    assert header.arrays[0].axes == ("snapshot", "sensor", "component")
    assert (header.sample_start, header.seq, header.epoch, header.timebase) == (256, 1, 0, "host")
    assert (header.frequency_hz, header.sample_rate_hz) == (2.4e9, 3e6)
    assert data[0]["iq"].shape == (256, n, 2)


def test_some_channels_only(radio):
    with running_iiod(model="fmcomms5", device={"sources": [SOURCE]}) as server:
        driver = radio(server, channels=[1, 3])
        data, _ = frames(driver, 1)
        driver.close()
        expected = expected_counts(server, 0, 256, 12)[:, [1, 3]]
    assert np.array_equal(data[0]["iq"], expected)


def test_channels_that_another_client_enables_are_left_out(radio):
    iio = import_libiio()
    with running_iiod(model="fmcomms5", loop_ticks=64) as server:
        context = iio.Context(server.uri)
        adc = context.find_device("cf-ad9361-A")
        for channel in adc.channels:
            channel.enabled = True
        other = iio.Buffer(adc, 64)
        driver = radio(server, channels=[2], n_samples=64)
        data, seen = frames(driver, 2)
        driver.close()
        del other
        expected = server.feed.counts(0, 64, 12)[2]
    assert data[0]["iq"].shape == (16, 1, 2)  # so many bytes as were asked for
    assert np.array_equal(data[0]["iq"][:, 0], expected[:16])
    assert "short_read" in [f.header.meta.get("event") for f in seen]


# -- settings --------------------------------------------------------------------------------------------------------


def test_settings_are_made_when_it_opens(radio):
    with running_iiod(model="fmcomms5") as server:
        driver = radio(server, frequency_hz=5.8e9, sample_rate_hz=1e6, bandwidth_hz=2e6, gain_db=7)
        assert driver.radio() == {"frequency_hz": [5.8e9, 5.8e9], "sample_rate_hz": 1e6, "gain_db": [7.0] * 4}
        assert (server.feed.frequency_hz, server.feed.sample_rate_hz, server.feed.gain_db) == (5.8e9, 1e6, 7.0)
        capabilities = driver.capabilities()
    assert (capabilities.channels, capabilities.timebase) == (4, "host")
    assert capabilities.gain_db == (-3.0, 71.0)


def test_a_verb_begins_an_epoch_and_no_frame_has_both(radio):
    with running_iiod(device={"sources": [{**SOURCE, "power_db": -30.0}]}) as server:
        driver = radio(server, n_samples=4096)
        before, _ = frames(driver, 2)
        assert driver.set_gain(20.0) == 1
        assert driver.tune(2.5e9) == 2
        after, seen = frames(driver, 3)
    assert [f.header.meta["event"] for f in seen if f.header.kind == "event"] == ["gain", "retune"]
    assert {f.header.epoch for f in after} == {2}
    assert after[0].header.frequency_hz == 2.5e9
    levels = [10 * np.log10(np.mean(np.sum(f["iq"].astype(float) ** 2, axis=-1))) for f in (*before, *after)]
    assert np.diff([np.mean(levels[:2]), *levels[2:]])[0] == pytest.approx(20, abs=0.5)
    assert max(levels[2:]) - min(levels[2:]) < 0.5


def test_verbs_beyond_the_limits_are_refused_and_nothing_changes(radio):
    with running_iiod() as server:
        driver = radio(server)
        with pytest.raises(ControlError, match="sample_rate_hz=1000: the device takes 520833 to 61440000"):
            driver.set_sample_rate(1000.0)
        with pytest.raises(ControlError, match="receiver 2: the device has 0 to 1"):
            driver.set_gain(3.0, 2)
        with pytest.raises(ControlError, match="frequency_hz=1e\\+10"):
            driver.tune(10e9)
        data, _ = frames(driver, 1)
        assert data[0].header.epoch == 0


def test_gain_of_one_receiver_and_its_mode(radio):
    with running_iiod() as server:
        driver = radio(server)
        driver.set_gain(5.0, 1)
        assert driver.radio()["gain_db"] == [0.0, 5.0]
        driver.set_bandwidth(1e6)
        driver.set_sample_rate(2.5e6)
        data, _ = frames(driver, 1)
        assert (data[0].header.epoch, data[0].header.sample_rate_hz) == (3, 2.5e6)
        driver.set_gain_mode("slow_attack", 0)
        until(driver, "gain")  # the mode
        event, _ = until(driver, "gain")  # what it did
        assert driver.radio()["gain_db"][0] > 10 and event.meta["gain_db"][1] == 5.0


def test_what_somebody_else_sets_is_found_out(radio):
    with running_iiod() as server:
        driver = radio(server)
        frames(driver, 1)
        server.fault("retune", 2.45e9)
        event, _ = until(driver, "retune")
        assert event.meta["frequency_hz"] == [2.45e9]
        data, _ = frames(driver, 1)
    assert (data[0].header.epoch, data[0].header.frequency_hz) == (1, 2.45e9)


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "amount", "why"),
    [
        ("error", 5, "Input/output error"),
        ("error", 110, "timed out"),
        ("corrupt", 1, "Invalid argument"),
        ("drop_connection", None, "Broken pipe"),
    ],
)
def test_a_connection_that_breaks_is_made_again_in_a_new_epoch(radio, kind, amount, why):
    with running_iiod() as server:
        driver = radio(server, gain_db=2)
        driver.set_gain(9.0)
        frames(driver, 1)
        server.fault(kind, amount)
        _, events = until(driver, "reconnect")
        data, _ = frames(driver, 1)
        assert events[0].meta["event"] == "disconnected"
        assert why in events[0].meta["why"]
        assert data[0].header.epoch == 2
        assert driver.radio()["gain_db"] == [9.0, 9.0]  # as the verb left it
        assert driver.stats()["reconnects"] == 1


def test_a_device_that_goes_in_the_midst_of_a_retune_is_told_and_looked_for(radio):
    with running_iiod() as server:
        driver = radio(server)
        frames(driver, 1)
    with pytest.raises(ControlError, match=r"radio: frequency_hz=2450000000.0: the device has gone: .*looked for"):
        driver.tune(2.45e9)
    _, events = until(driver, "disconnected")
    assert "libiio" in events[-1].meta["why"]


def test_a_device_that_stalls_keeps_no_read_waiting(radio):
    with running_iiod() as server:
        driver = radio(server)
        frames(driver, 1)
        server.fault("stall", 3.0)
        longest_s, seen, end = 0.0, [], time.monotonic() + 15
        while "reconnect" not in seen:
            began_s = time.monotonic()
            assert began_s < end, seen
            seen += [f.header.meta["event"] for _, f in driver.read(0.1) if f.header.kind == "event"]
            longest_s = max(longest_s, time.monotonic() - began_s)
        frames(driver, 1)
    assert seen[0] == "disconnected"
    assert longest_s < 2.5  # libiio would wait out the stall


def test_a_short_read_is_a_short_frame_and_told(radio):
    with running_iiod() as server:
        driver = radio(server)
        frames(driver, 1)
        server.fault("short_read", 100)
        event, _ = until(driver, "short_read")
        assert (event.meta["samples"], event.meta["expected"]) == (100, 256)
        assert driver.stats()["short_reads"] == 1


def test_frames_after_a_short_one_count_what_came(radio):
    with running_iiod() as server:
        server.fault("short_read", 100)
        data, _ = frames(radio(server), 3)
    assert [len(f["iq"]) for f in data] == [100, 256, 256]
    assert [f.header.sample_start for f in data] == [0, 100, 356]


def test_an_overflow_is_told_though_nobody_knows_of_how_many(radio):
    with running_iiod() as server:
        driver = radio(server)
        frames(driver, 1)
        server.fault("overrun", 777)
        event, _ = until(driver, "overflow")
        assert event.meta["samples"] is None
        data, _ = frames(driver, 1)
        assert data[0].header.epoch == 0
        assert driver.stats()["overflows"] == 1


def test_a_client_too_slow_for_the_device_is_told_of_overflows(radio):
    with running_iiod(loop_ticks=4096, device={"real_time": True, "sample_rate_hz": 30e6}) as server:
        driver = radio(server)
        frames(driver, 1)
        time.sleep(0.3)
        until(driver, "overflow")


def test_a_server_that_comes_back_elsewhen_is_found(radio):
    port = free_port()
    with running_iiod(port=port) as server:
        driver = radio(server)
        frames(driver, 1)
    until(driver, "disconnected")
    with running_iiod(port=port):
        until(driver, "reconnect")
        data, _ = frames(driver, 1)
        driver.close()
    assert data[0].header.epoch == 1


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("ip:127.0.0.1:{free}", "nothing listens on port"),
        ("ip:no-such-host.invalid", "the name no-such-host.invalid is not known"),
        ("ip:127.0.0.1:99999", "'99999' is no port"),
        ("127.0.0.1", "names no backend"),
    ],
)
def test_a_wrong_address_is_one_clear_error(uri, why):
    with pytest.raises(DriverError, match=why):
        Iio("radio", uri=uri.format(free=free_port())).open()


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"channels": [0, 2]}, "it has complex channels 0 to 1"),
        ({"channels": [1, 0]}, "come in rising order"),
        ({"adc": "nope"}, "has no receiver nope: devices with buffered complex channels: cf-ad9361-lpc"),
        ({"sample_rate_hz": 1000.0}, "sample_rate_hz=1000.0: the device takes 520833 to 61440000"),
        ({"frequency_hz": 28e9}, "frequency_hz=28000000000.0: the device takes 70000000 to 6000000000"),
        ({"gain_db": 80.0}, "gain_db=80.0: the device takes -3 to 71"),
        ({"array": {"kind": "ula", "n": 3}}, "3 channels are declared, the device gives 2"),
    ],
)
def test_what_the_device_has_not_is_one_clear_error(params, why):
    with running_iiod() as server, pytest.raises(DriverError, match=why):
        driver = Iio("radio", uri=server.uri, **params)
        try:
            driver.open()
        finally:
            driver.close()


@pytest.mark.parametrize(
    ("number", "says", "fix"),
    [
        (errno.EACCES, "permission denied", "group plugdev"),
        (errno.EBUSY, "another program has it", "close the other program"),
        (errno.ETIMEDOUT, "no answer in time", "cable and power"),
        (errno.ENOMEM, "no memory for such buffers", "smaller n_samples"),
        (errno.ENODEV, "there is none (No such device)", "iio_info -S lists the devices there are"),
        (errno.EIO, "Input/output error", "the device's own log"),
    ],
)
def test_what_libiio_says_in_numbers_is_said_in_words(number, says, fix):
    what, remedy = why(OSError(number, os.strerror(number)))
    assert says in what and fix in remedy


def test_either_an_address_or_an_embedded_device():
    with pytest.raises(ParamError, match="either uri"):
        Iio("radio")


def test_a_missing_library_names_its_package(monkeypatch):
    monkeypatch.setattr("drivers.iio_library.find_library", lambda name: None)
    with pytest.raises(DriverError, match="Debian package libiio0"):
        Iio("radio", uri="ip:127.0.0.1:1").open()


def test_a_missing_binding_names_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "iio", None)
    with pytest.raises(IioTrouble, match=r"pip install 'hil-receiver\[iio\]'"):
        import_libiio()


def test_a_binding_of_libiio_1_is_told_apart(monkeypatch):
    class New:
        version = (1, 0, "v1.0")

    monkeypatch.setitem(sys.modules, "iio", New)
    with pytest.raises(IioTrouble, match=r"libiio 0\.x is needed.*pylibiio<1"):
        import_libiio()


def test_a_binding_that_does_not_fit_the_library_is_told_apart(monkeypatch):
    def undefined(name):
        raise AttributeError("libiio.so.0: undefined symbol: iio_get_builtin_backends_count")

    monkeypatch.setattr("drivers.iio_library.importlib.import_module", undefined)
    with pytest.raises(IioTrouble, match=r"undefined symbol.*pylibiio<1"):
        import_libiio()


# -- text of attributes ----------------------------------------------------------------------------------------------


class Attribute:
    def __init__(self, value):
        self.value = value


class Channel:
    id = "voltage0"

    def __init__(self, **attributes):
        self.attrs = {k: Attribute(v) for k, v in attributes.items()}


def test_numbers_and_limits_as_the_kernel_writes_them():
    channel = Channel(frequency="2400000000", frequency_available="[70000000 1 6000000000]", gain="-3.500000 dB")
    assert _number(channel, "frequency") == 2.4e9
    assert _number(channel, "gain") == -3.5
    assert _limits([channel], "frequency") == (70e6, 6e9)
    assert _limits([channel], "gain") is None
    with pytest.raises(OSError, match="'ERROR', not a number"):
        _number(Channel(frequency="ERROR"), "frequency")


@pytest.mark.parametrize(
    ("what", "asked", "text", "taken"),
    [
        ("frequency_hz", 2.4e9, "2399999998", True),
        ("frequency_hz", 2.4e9, "2400100000", False),
        ("gain_db", 10.2, "10.000000 dB", True),
        ("gain_db", 12.0, "10.000000 dB", False),
        ("gain_mode", "manual", "slow_attack", False),
        ("bandwidth_hz", 2.0e6, "2100000", True),
    ],
)
def test_what_a_device_took_is_compared_with_what_it_was_asked_for(what, asked, text, taken):
    assert _taken(what, asked, text) is taken


def test_probe_of_backends_that_have_no_port():
    for uri in ("usb:", "local:", "ip:"):
        probe(uri, 0.1)
