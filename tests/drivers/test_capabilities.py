"""What drivers declare is what their frames carry: channels, timebase, limits of what can be set."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from drivers import uhd_interpreter
from drivers.iio_library import IioTrouble, import_libiio
from hil.errors import ControlError, ParamError
from hil.frame import Frame

DEVICE = {"array": {"kind": "ula", "n": 2, "spacing_m": 0.05}, "sample_rate_hz": 250e3, "real_time": False}
SRS = {"n_rb": 51, "n_fft": 1024, "c_srs": 13, "period_slots": 40}
LINE = {"kind": "ula", "n": 2, "spacing_m": 0.05}

#: Driver; its parameters; channels; what its time counts from.
DRIVERS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "iio": ("drivers.iio:Iio", {"device": {"device": {"real_time": False}}}, 2, "host"),
    "uhd": (
        "drivers.uhd:Uhd",
        {"device": {"device": DEVICE, "host": "auto"}, "sample_rate_hz": 250e3},
        2,
        "device",
    ),
    "heimdall 1": ("drivers.heimdall:Heimdall", {"device": {"device": {"real_time": False}}}, 5, "utc"),
    "heimdall 2": (
        "drivers.heimdall:Heimdall",
        {"device": {"version": 2, "device": {"real_time": False}}},
        5,
        "host",
    ),
    "oai_tracer": (
        "drivers.oai_tracer:OaiTracer",
        {"device": {"srs": SRS}, "srs": {"n_rb": 51, "n_subcarriers": 576}},
        4,
        "utc",
    ),
    "gnuradio": (
        "drivers.gnuradio:GnuRadio",
        {"device": {"device": DEVICE, "socket": "push"}, "array": LINE},
        2,
        "device",
    ),
    "srsran": (
        "drivers.srsran:SrsRan",
        {"device": {"device": DEVICE}, "array": LINE, "sample_rate_hz": 250e3},
        2,
        "device",
    ),
}


def make(name: str) -> Any:
    path, params, _, _ = DRIVERS[name]
    module, _, cls = path.partition(":")
    if name == "iio":
        try:
            import_libiio()
        except IioTrouble as trouble:
            pytest.skip(f"needs libiio0 and pylibiio: {trouble}")
    if name == "uhd" and uhd_interpreter.first_usable() is None:
        pytest.skip("needs Debian's python3-uhd")
    return getattr(importlib.import_module(module), cls)("radio", embedded=True, **params)


def first_data(driver: Any) -> Frame:
    for _ in range(200):
        for _, frame in driver.read(0.2) or ():
            if frame.header.kind == "data":
                return frame
    raise AssertionError("no frame came")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "gnuradio" else pytest.mark.slow) for n in DRIVERS])
def test_declared_and_carried(name: str) -> None:
    driver = make(name)
    try:
        driver.open()
        frame = first_data(driver)
        told = driver.capabilities()
        _, _, channels, timebase = DRIVERS[name]
        array = next(iter(frame.header.arrays))
        assert told.channels == channels == array.shape[array.axes.index("sensor")]
        assert told.timebase == timebase == frame.header.timebase
        assert told.sync
        assert (told.tune_hz is not None) == ("tune" in getattr(driver, "verbs", ()))
        if told.tune_hz is not None:
            low, high = told.tune_hz
            assert 0 < low < high
            with pytest.raises((ControlError, ParamError), match=r"\d"):
                call(driver, "tune", frequency_hz=10 * high)
    finally:
        driver.close()


def call(driver: Any, verb: str, **arguments: Any) -> Any:
    """As the control plane does, which checks arguments against their annotations."""
    from hil.runtime.control import call_verb

    return call_verb(driver, driver.verbs, verb, arguments)
