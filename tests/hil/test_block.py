"""Blocks: ports are checked, headers handed on, inputs joined, losses carried."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pytest
from msgspec import Meta

from hil.array import ArrayGeometry
from hil.block import Block, Out, Result
from hil.descriptor import descriptor_frame
from hil.errors import ParamError, PortError
from hil.frame import NO_LOSS, Frame, Header, Loss
from hil.params import Params
from hil.port import Port, check_connection, field
from tests.jig import check_block


class GainParams(Params, frozen=True):
    gain: Annotated[float, Meta(gt=0, le=10, description="Factor")] = 2.0
    n_sensors: Annotated[int, Meta(ge=1)] = 2


class Gain(Block):
    params: GainParams
    inputs = {"x": Port("complex64", "sensor snapshot", "FS")}
    outputs = {"y": Port("complex64", "sensor snapshot", "FS")}

    def sizes(self) -> dict[str, int]:
        return {"sensor": self.params.n_sensors}

    def process(self, x: Any) -> Result:
        return (x * np.complex64(self.params.gain)).astype(np.complex64)


class Blocks4(Block):
    """Sums of four snapshots, whatever the chunking; the rest at the end."""

    inputs = {"x": Port("complex64", "sensor snapshot", "FS")}
    outputs = {"y": Port("complex64", "sensor", "FS")}

    def setup(self) -> None:
        self._rest = np.zeros((2, 0), np.complex64)

    def process(self, x: Any) -> Result:
        x = np.concatenate([self._rest, x], axis=1)
        n = x.shape[1] // 4
        self._rest = x[:, 4 * n :]
        return [x[:, 4 * i : 4 * i + 4].sum(axis=1) for i in range(n)]

    def flush(self) -> Result:
        return self._rest.sum(axis=1) if self._rest.size else None


class Sum(Block):
    inputs = {
        "a": Port("float64", "value"),
        "b": Port("float64", "value"),
        "scale": Port("float64", "", name="scale", latest=True),
    }
    outputs = {"sum": Port("float64", "value"), "flag": Port("bool", "")}

    def process(self, a: Any, b: Any, scale: Any) -> Result:
        total = (a + b) * (1.0 if scale is None else float(scale))
        return total, (Out(np.array(True), {"calibration": "stale"}) if scale is not None else None)


def iq(seq: int, n: int = 4, **header: Any) -> Frame:
    x = np.full((2, n), seq + 1j, np.complex64)
    return Frame.of(Header("dev.iq", seq, **header), iq=(x, "sensor snapshot", "FS"))


def value(stream: str, time_ns: int, x: float) -> Frame:
    return Frame.of(Header(stream, time_ns, time_ns=time_ns, timebase="device"), x=(np.array([float(x)]), "value", ""))


def test_any_chunking_gives_the_same():
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((2, 17)) + 1j * rng.standard_normal((2, 17))).astype(np.complex64)
    check_block(lambda: Gain("g", gain=3.0), x, [[3 * v for v in row] for row in x.tolist()], rtol=1e-6, atol=0)
    sums = [[sum(row[i : i + 4]) for row in x.tolist()] for i in range(0, 17, 4)]
    check_block(lambda: Blocks4("s"), x, sums, rtol=0, atol=1e-5)


def test_direct_call_takes_and_gives_arrays():
    np.testing.assert_array_equal(Gain("g")(np.ones((2, 3), np.complex64)), np.full((2, 3), 2, np.complex64))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 8), "complex64"), r"g\.x: expected complex64 \[sensor=2, snapshot\], got complex64 \[3, 8\]"),
        (np.zeros((2, 8), "complex128"), r"g\.x: expected complex64 \[sensor=2, snapshot\], got complex128 \[2, 8\]"),
        (np.zeros(8, "complex64"), r"g\.x: expected complex64 \[sensor=2, snapshot\], got complex64 \[8\]"),
    ],
)
def test_wrong_input_names_port_and_both_shapes(x, message):
    with pytest.raises(PortError, match=message):
        Gain("g")(x)
    frame = Frame.of(Header("t", 0), x=(x, " ".join("abc"[: x.ndim]), ""))
    with pytest.raises(PortError, match=message):
        Gain("g").feed("x", frame)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"gain": -1.0}, r"Gain 'g': Expected `float` > 0.0 - at `\$.gain`; parameters: gain, n_sensors"),
        ({"gain": "loud"}, r"Expected `float`, got `str` - at `\$.gain`"),
        ({"n_sensors": 0}, r"Expected `int` >= 1 - at `\$.n_sensors`"),
        ({"volume": 3}, "unknown field `volume`"),
    ],
)
def test_wrong_parameters_name_path_and_limit(params, message):
    with pytest.raises(ParamError, match=message):
        Gain("g", **params)


def test_set_params_checks_before_it_sets():
    block = Gain("g")
    block.set_params(gain=5)
    with pytest.raises(ParamError, match="<= 10"):
        block.set_params(gain=11.0, n_sensors=3)
    assert block.params.gain == 5.0 and block.params.n_sensors == 2


def test_header_is_handed_on_with_stream_and_arrays_of_the_output():
    header = {"epoch": 3, "time_ns": 7, "timebase": "utc", "host_time_ns": 9, "frequency_hz": 5e9, "array_id": "a"}
    ((port, out),) = Gain("g").feed("x", iq(5, lost=Loss(1, 4, 0), **header))
    assert port == "y" and out.header.stream == "g.y" and out.header.seq == 5
    assert {k: getattr(out.header, k) for k in header} == header
    assert out.header.lost == Loss(1, 4, 0)
    assert [(s.name, s.shape, s.axes, s.unit) for s in out.header.arrays] == [
        ("x", (2, 4), ("sensor", "snapshot"), "FS")
    ]


def test_losses_add_up_until_something_comes_out():
    block = Blocks4("s")
    assert block.feed("x", iq(0, 2, lost=Loss(1, 2, 0))) == []
    first, second = block.feed("x", iq(1, 6, lost=Loss(2, 0, 5)))
    assert first[1].header.lost == Loss(3, 2, 5) and second[1].header.lost == Loss()  # once a stream
    ((_, third),) = block.feed("x", iq(2, 4))
    assert third.header.lost == Loss()


def test_inputs_are_joined_by_time_and_the_unmatched_counted():
    block = Sum("sum")
    out = []
    for t in (0, 10, 20, 30):
        out += block.feed("a", value("a", t, t))
    for t in (10, 30, 40):
        out += block.feed("b", value("b", t, 1))
    sums = [(f.header.time_ns, f["x"].item()) for _, f in out]
    assert sums == [(10, 11.0), (30, 31.0)]
    assert block.n_unmatched == 2


def test_latest_input_is_not_waited_for():
    block = Sum("sum")
    block.feed("scale", Frame.of(Header("s", 0), scale=(np.array(10.0), "", "")))
    block.feed("a", value("a", 0, 1))
    (port, total), (flag_port, flag) = block.feed("b", value("b", 0, 2))
    assert (port, flag_port) == ("sum", "flag")
    assert total["x"].item() == 30.0
    assert flag.header.calibration == "stale" and total.header.calibration == "none"


def test_held_frames_do_not_alias_the_senders_memory():
    block = Sum("sum")
    a = value("a", 0, 1.0)
    block.feed("a", a)
    a["x"][:] = 99  # the sender uses its memory again
    ((_, total),) = block.feed("b", value("b", 0, 2.0))
    assert total["x"].item() == 3.0


def test_descriptor_reaches_the_block_and_goes_on():
    block = Gain("g")
    array = ArrayGeometry.ula(4, 0.03)
    ((port, out),) = block.feed("x", descriptor_frame(Header("dev.iq", 0), array, {"seed": 7}))
    assert block.array == array and port == "y"
    assert out.header.kind == "descriptor" and out.header.stream == "g.y" and out.header.meta["seed"] == 7


def test_output_that_is_not_as_declared_is_refused():
    class Wrong(Gain):
        def process(self, x: Any) -> Result:
            return x.real

    with pytest.raises(PortError, match=r"w\.y: expected complex64 \[sensor=2, snapshot\], got float32 \[2, 4\]"):
        Wrong("w").feed("x", iq(0))


@pytest.mark.parametrize(
    ("sink", "sizes", "message"),
    [
        (
            Port("float32", "sensor snapshot", "FS"),
            {},
            "cannot connect cal.y to cov.x: 'x' is complex64, expected float32",
        ),
        (Port("complex64", "sensor sample", "FS"), {}, r"axes \[sensor, snapshot\], expected \[sensor, sample\]"),
        (Port("complex64", "sensor snapshot", "V"), {}, "is in FS, expected V"),
        (Port("complex64", "sensor snapshot", "FS"), {"sensor": 8}, "sensor=4 on 'cal', sensor=8 on 'cov'"),
        (Port.of(a=field("int64", ""), b=field("int64", "")), {}, "it needs an array 'a', the output has x"),
    ],
)
def test_a_connection_that_does_not_fit_names_both_ends(sink, sizes, message):
    source = Port("complex64", "sensor snapshot", "FS")
    with pytest.raises(PortError, match=message):
        check_connection(source, {"sensor": 4}, "cal.y", sink, sizes, "cov.x")


class Rarely(Block):
    """Gives one output for each frame, another for every third."""

    inputs = {"x": Port.any()}
    outputs = {"always": Port.any(), "rarely": Port.any()}

    def process(self, x: Any) -> Any:
        return x, x if self.header.seq % 3 == 2 else None


def test_each_output_tells_all_that_was_lost_before_its_frames() -> None:
    block = Rarely("b")
    told: dict[str, list[int]] = {"always": [], "rarely": []}
    for seq in range(8):
        lost = Loss(frames=1, samples=10) if seq in (1, 4, 7) else NO_LOSS
        header = Header(stream="s.x", seq=seq, lost=lost)
        for port, out in block.feed("x", Frame.of(header, x=(np.zeros(2), "sensor", ""))):
            told[port].append(out.header.lost.frames)
    assert told == {"always": [0, 1, 0, 0, 1, 0, 0, 1], "rarely": [1, 1]}
    assert (block.untold_loss("always"), block.untold_loss("rarely").frames) == (NO_LOSS, 1)
