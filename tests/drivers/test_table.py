"""Tables: every format, the BLE captures, refusals, bad rows, mutated files."""

import csv
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from drivers.table import Table
from hil.descriptor import array_of
from hil.errors import DriverError, HilError, ParamError
from hil.streams import SWITCHED, TRUTH
from tests.drivers.test_mcap_replay import run
from tests.hil.record.streams import ULA

CAPTURES = Path(__file__).parents[2] / ".." / "shared" / "data" / "ble-uca8"
SWITCHED_MAP = {
    "phase_rad": {"columns": "2:8", "shape": [3, 2], "axes": "slot sample", "unit": "rad", "scale": math.pi / 201},
    "emitter": {"columns": 1, "dtype": "int64"},
}
RNG = np.random.default_rng(1)
H = RNG.standard_normal((6, 5, 4)) + 1j * RNG.standard_normal((6, 5, 4))  # frame, snapshot, sensor
CHANNEL = {"iq": {"key": "H", "stored_axes": "frame snapshot sensor", "axes": "sensor snapshot", "dtype": "complex64"}}


def data_of(driver, port="data"):
    return [f for p, f in run(driver) if f.header.kind == "data" and p == port]


def events_of(driver):
    return [dict(f.header.meta) for _, f in run(driver) if f.header.kind == "event"]


def write_rows(path, rows, delimiter=","):
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return str(path)


def rows(n=4):
    return [[0.5 * i, 3 + i, *(10 * i + k for k in range(6))] for i in range(n)]


def table(path, **params):
    return Table("table", **{"paths": [str(path)], "fields": SWITCHED_MAP, **params})


# -- CSV ---------------------------------------------------------------------------------------------------------------


def test_rows_become_frames(tmp_path):
    path = write_rows(tmp_path / "x1y3.csv", rows())
    driver = table(
        path,
        port="switched",
        time={"columns": 0},
        truth_from_name={"pattern": r"x(?P<x>\d+)y(?P<y>\d+)", "scale_m": [3, 3, 1], "id": 5},
        frequency_hz=2.44e9,
        array=ULA.to_dict(),
    )
    assert driver.outputs["switched"].fields == SWITCHED
    assert driver.outputs["truth"].fields == TRUTH
    came = run(driver)
    assert [(p, f.header.kind) for p, f in came[:5]] == [
        ("switched", "event"),
        ("switched", "descriptor"),
        ("switched", "data"),
        ("truth", "descriptor"),
        ("truth", "data"),
    ]
    assert array_of(came[1][1]) == ULA
    frames = [f for p, f in came if p == "switched" and f.header.kind == "data"]
    for i, frame in enumerate(frames):
        turns = [[10 * i + 2 * slot + sample for sample in range(2)] for slot in range(3)]
        assert np.allclose(frame["phase_rad"], np.array(turns) * math.pi / 201, rtol=1e-15, atol=0)
        assert frame["emitter"] == 3 + i
        h = frame.header
        assert (h.seq, h.time_ns, h.timebase, h.frequency_hz) == (i, i * 500_000_000, "device", 2.44e9)
        assert dict(h.meta) == {"file": "x1y3.csv", "row": i + 1}
        driver.outputs["switched"].check(frame.arrays, {}, "switched")
    true = [f for p, f in came if p == "truth" and f.header.kind == "data"]
    assert len(true) == 4
    assert np.array_equal(true[0]["position_m"], [[3.0, 9.0, 0.0]])
    assert np.array_equal(true[0]["id"], [5])
    assert [f.header.time_ns for f in true] == [f.header.time_ns for f in frames]


def test_files_are_epochs_in_the_order_of_their_names(tmp_path):
    for name in ("b.csv", "a.csv"):
        write_rows(tmp_path / name, rows(2))
    frames = data_of(table(tmp_path / "*.csv"))
    assert [(f.header.seq, f.header.epoch, f.header.meta["file"]) for f in frames] == [
        (0, 0, "a.csv"),
        (1, 0, "a.csv"),
        (2, 1, "b.csv"),
        (3, 1, "b.csv"),
    ]


def test_bad_rows_are_left_out_counted_and_named(tmp_path):
    bad = rows(7)
    bad[1][4] = "x"
    bad[2][3] = "nan"
    bad[4] = bad[4][:-1]
    bad[5][1] = 3.5  # no whole number of an emitter
    path = write_rows(tmp_path / "a.csv", bad)
    frames = data_of(table(path))
    assert [(f.header.seq, f.header.lost.frames, f.header.meta["row"]) for f in frames] == [
        (0, 0, 1),
        (3, 2, 4),
        (6, 2, 7),
    ]
    (_, event) = events_of(table(path))
    assert event == {
        "event": "bad_rows",
        "file": "a.csv",
        "n": 4,
        "rows": [2, 3, 5, 6],
        "reason": "could not convert string to float: 'x'",
    }
    with pytest.raises(DriverError, match=r"a\.csv: row 2: could not convert .* strict=false leaves it out"):
        run(table(path, strict=True))


def test_header_comments_other_delimiters_and_complex_columns(tmp_path):
    (tmp_path / "a.txt").write_text("time re im re im\n# a comment\n\n0 1 2 3 4\n1  5 6 7 8\n")
    fields = {"iq": {"columns": "1:5:2", "imag_columns": "2:5:2", "axes": "sensor", "dtype": "complex128"}}
    frames = data_of(table(tmp_path / "a.txt", fields=fields, delimiter=" ", skip_rows=1))
    assert np.array_equal([f["iq"] for f in frames], [[1 + 2j, 3 + 4j], [5 + 6j, 7 + 8j]])


def test_truth_in_columns(tmp_path):
    path = write_rows(tmp_path / "a.csv", [[i, i + 0.5, 2 * i, 0, 9] for i in range(3)])
    truth = {
        "position_m": {"columns": "1:4", "shape": [1, 3], "axes": "source xyz", "unit": "m"},
        "id": {"columns": 4, "shape": [1], "axes": "source", "dtype": "int64"},
    }
    frames = data_of(table(path, fields={"x": {"columns": 0}}, truth=truth), "truth")
    assert np.array_equal([f["position_m"][0] for f in frames], [[i + 0.5, 2 * i, 0] for i in range(3)])
    assert frames[0].header.arrays[0].axes == ("source", "xyz")


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="needs the captures in ../shared/data/ble-uca8")
def test_ble_captures():
    fields = {
        "phase_rad": {**SWITCHED_MAP["phase_rad"], "columns": "2:113", "shape": [37, 3]},
        "emitter": SWITCHED_MAP["emitter"],
    }
    path = CAPTURES / "x1y3.csv"
    frames = data_of(Table("t", paths=[str(path)], port="s", fields=fields, time={"columns": 0}), "s")
    with path.open() as file:
        expected = [[float(v) for v in row] for row in csv.reader(file)]
    assert len(frames) == len(expected) == 600
    for frame, row in zip(frames, expected, strict=True):
        assert np.allclose(frame["phase_rad"].reshape(-1) * 201 / math.pi, row[2:], rtol=1e-12, atol=1e-12)
        assert frame["emitter"] == row[1]
        assert frame.header.time_ns == round(row[0] * 1e9)


# -- arrays ------------------------------------------------------------------------------------------------------------


def save_npz(path):
    np.savez(path, H=H, t=np.arange(6) / 10, n=np.arange(6))


def save_npz_compressed(path):
    np.savez_compressed(path, H=np.asfortranarray(H), t=np.arange(6) / 10, n=np.arange(6))


def save_mat(path):
    scipy.io.savemat(path, {"H": H, "t": np.arange(6) / 10, "n": np.arange(6)}, do_compression=True)


def save_hdf5(path):
    with h5py.File(path, "w") as file:
        file["H"], file["t"], file["n"] = H, np.arange(6) / 10, np.arange(6)


def save_mat73(path):
    """As MATLAB writes: axes reversed, complex numbers as pairs, a text before the file."""
    pairs = np.zeros(H.T.shape, [("real", "f8"), ("imag", "f8")])
    pairs["real"], pairs["imag"] = H.T.real, H.T.imag
    with h5py.File(path, "w", userblock_size=512) as file:
        file["H"], file["t"], file["n"] = pairs, np.arange(6)[:, None] / 10, np.arange(6)[None]
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


SAVERS = {
    "a.npz": save_npz,
    "b.npz": save_npz_compressed,
    "a.mat": save_mat,
    "a.h5": save_hdf5,
    "b.mat": save_mat73,
}


@pytest.mark.parametrize("name", SAVERS)
def test_variables_of_each_format(tmp_path, name):
    SAVERS[name](tmp_path / name)
    fields = {**CHANNEL, "n": {"key": "n", "dtype": "int64"}}
    frames = data_of(table(tmp_path / name, fields=fields, time={"key": "t", "unit": "ms"}, timebase="host"))
    assert len(frames) == 6
    for i, frame in enumerate(frames):
        assert np.array_equal(frame["iq"], H[i].T.astype(np.complex64))
        assert frame["iq"].flags.c_contiguous
        assert frame["n"] == i
        assert (frame.header.time_ns, frame.header.timebase) == (i * 100_000, "host")


def test_npy_of_one_array_cut_into_frames(tmp_path):
    x = H[0].T.astype(np.complex64)  # sensor, snapshot
    np.save(tmp_path / "a.npy", np.asfortranarray(x))
    fields = {"iq": {"axes": "sensor snapshot", "dtype": "complex64", "unit": "FS", "split": 2}}
    frames = data_of(table(tmp_path / "a.npy", fields=fields, sample_rate_hz=1e3))
    assert [f["iq"].shape for f in frames] == [(4, 2), (4, 2)]
    assert np.array_equal(np.concatenate([f["iq"] for f in frames], axis=1), x[:, :4])
    assert [(f.header.sample_start, f.header.time_ns) for f in frames] == [(0, 0), (2, 2_000_000)]


def test_file_that_is_one_frame(tmp_path):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", H[i])
    fields = {"h": {"axes": "sensor snapshot", "stored_axes": "snapshot sensor", "dtype": "complex128"}}
    frames = data_of(table(tmp_path / "*.npy", fields=fields))
    assert [np.array_equal(f["h"], H[i].T) for i, f in enumerate(frames)] == [True, True]


def test_table_in_an_array_by_columns(tmp_path):
    np.save(tmp_path / "a.npy", np.array(rows()))
    frames = data_of(table(tmp_path / "a.npy", time={"columns": 0}))
    assert [int(f["emitter"]) for f in frames] == [3, 4, 5, 6]
    assert [f.header.time_ns for f in frames] == [0, 5 * 10**8, 10**9, 15 * 10**8]


def test_frames_that_are_not_finite_are_left_out(tmp_path):
    holed = H.copy()
    holed[2, 1, 1] = np.nan
    np.savez(tmp_path / "a.npz", H=holed)
    frames = data_of(table(tmp_path / "a.npz", fields=CHANNEL))
    assert [(f.header.seq, f.header.lost.frames) for f in frames] == [(0, 0), (1, 0), (3, 1), (4, 0), (5, 0)]
    assert events_of(table(tmp_path / "a.npz", fields=CHANNEL))[1]["rows"] == [3]


def test_values_beyond_their_type_are_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([1e300, 2.0]), n=np.array([1.0, 2**40]))
    for fields, row in (({"x": {"key": "x", "dtype": "float32"}}, 1), ({"x": {"key": "n", "dtype": "int32"}}, 2)):
        (frame,) = data_of(table(tmp_path / "a.npz", fields=fields))
        assert frame.header.meta["row"] == 3 - row
        assert events_of(table(tmp_path / "a.npz", fields=fields))[1]["rows"] == [row]


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DriverError, match="holds Python objects, which are not loaded"):
        run(table(tmp_path / "a.npy", fields={"x": {}}))
    np.savez(tmp_path / "a.npz", H=np.array([{"a": 1}]))
    with pytest.raises(DriverError, match="holds Python objects, which are not loaded"):
        run(table(tmp_path / "a.npz", fields={"x": {"key": "H"}}))
    scipy.io.savemat(tmp_path / "a.mat", {"H": {"b": 1}})
    with pytest.raises(DriverError, match="expected numbers"):
        run(table(tmp_path / "a.mat", fields={"x": {"key": "H", "axes": "n"}}))


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"x": {"columns": "2:9"}}, r"field 'x': expected columns 2:9, the table has 8"),
        ({"x": {"columns": 8}}, "expected columns 8, the table has 8"),
        (
            {"x": {"columns": "2:8", "shape": [4, 2], "axes": "slot sample"}},
            r"columns 2:8 are 6 values, expected \[slot=4, sample=2\]",
        ),
        ({"x": {"columns": "2:8"}}, r"columns 2:8 are 6 values, expected \[one value\]"),
        ({"x": {}}, r"a\.csv is text: give the columns of every field"),
    ],
)
def test_columns_that_are_not_there(tmp_path, fields, message):
    with pytest.raises(DriverError, match=message):
        run(table(write_rows(tmp_path / "a.csv", rows()), fields=fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"x": {"key": "G"}}, r"has no variable 'G': it has H, t, n"),
        ({"x": {}}, r"has several variables and no key: it has H, t, n"),
        ({"x": {"key": "H", "axes": "sensor"}}, r"expected axes \[frame, sensor\], H is complex128 \[6, 5, 4\]"),
        (
            {"x": {"key": "H", "axes": "a b", "shape": [5, 3], "dtype": "complex64"}},
            r"expected shape \[5, 3\], got \[5, 4\]",
        ),
        ({"x": {"key": "H", "axes": "a b"}}, "the file has complex128, expected real numbers for float64"),
        (
            {"x": {"key": "n"}, "y": {"key": "H", "axes": "frame_ b", "stored_axes": "frame_ frame b"}},
            "different numbers of frames: {'x': 6, 'y': 5}",
        ),
    ],
)
def test_variables_that_do_not_fit(tmp_path, fields, message):
    if "y" in fields:
        fields["y"]["dtype"] = "complex64"
    save_npz(tmp_path / "a.npz")
    with pytest.raises(DriverError, match=message):
        run(table(tmp_path / "a.npz", fields=fields))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fields": {"x": {"columns": "a"}}}, "fields.x: columns are a number or 'first:end' or .* got 'a'"),
        ({"fields": {"x": {"columns": -1}}}, "columns count from 0, got -1"),
        ({"fields": {"x": {"columns": "1:3", "axes": "a b"}}}, "columns in axes 'a b' need a shape"),
        (
            {"fields": {"x": {"columns": "1:3", "shape": [2], "axes": "a b"}}},
            r"shape \[2\] has 1 sizes, axes are 'a b'",
        ),
        ({"fields": {"x": {"stored_axes": "a b", "axes": "a"}}}, "stored_axes 'a b' are not those of axes 'a'"),
        ({"fields": {"x": {"imag_key": "b"}}}, "an imaginary part needs a complex dtype, got 'float64'"),
        ({"fields": {"x": {"split": 3}}}, "split cuts the last axis"),
        ({"fields": {}}, r"Expected `object` of length >= 1 - at `\$\.fields`"),
        ({"fields": {"x": {"column": 3}}}, "unknown field `column`"),
        ({"truth": {"speed": {"columns": 1}}}, "truth has no 'speed', only position_m"),
        ({"truth": {"id": {"columns": 1}}}, r"truth\.id must be int64 \[source\] in no unit"),
        ({"truth_from_name": {"pattern": "("}}, "is no regular expression"),
        ({"truth_from_name": {"pattern": "a"}}, "must have groups named x, y or z"),
        ({"truth_from_name": {"pattern": "(?P<x>.)"}, "port": "truth"}, "call the other differently"),
    ],
)
def test_mappings_that_cannot_be(params, message):
    with pytest.raises(ParamError, match=message):
        table("a.csv", **params)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DriverError, match=r"Table 'table': no file matches .*\*\.csv"):
        table(tmp_path / "*.csv").open()
    with pytest.raises(DriverError, match=r"Table 'table': .*a\.csv is no file"):
        table(tmp_path / "a.csv").open()
    (tmp_path / "a.xls").write_bytes(b"")
    with pytest.raises(DriverError, match=r"expected a name that ends in \.csv, "):
        run(table(tmp_path / "a.xls"))
    (tmp_path / "a.csv").write_text("\n")
    with pytest.raises(DriverError, match="has no rows"):
        run(table(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_text("1,2\n")
    with pytest.raises(DriverError, match=r"the name b\.csv does not match"):
        named = {"pattern": r"x(?P<x>\d)"}
        run(table(tmp_path / "b.csv", fields={"x": {"columns": 0}}, truth_from_name=named))


def test_npy_that_lies_about_its_size(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data.replace(b"(4, 4)", b"(4,44)"))
    with pytest.raises(DriverError, match=r"its header says float64 \[4, 44\] = 1408 bytes, 128 follow"):
        run(table(tmp_path / "a.npy", fields={"x": {"axes": "n"}}))


def fuzz(tmp_path, n, seed):
    rng = np.random.default_rng(seed)
    fields = {**CHANNEL, "n": {"key": "n"}}
    good = {name: (SAVERS[name](tmp_path / name), (tmp_path / name).read_bytes())[1] for name in SAVERS}
    write_rows(tmp_path / "a.csv", rows(20))
    good["a.csv"] = (tmp_path / "a.csv").read_bytes()
    np.save(tmp_path / "a.npy", np.array(rows(20)))
    good["a.npy"] = (tmp_path / "a.npy").read_bytes()
    n_frames, n_refused = 0, 0
    for index in range(n):
        name = list(good)[index % len(good)]
        data = bytearray(good[name])
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(len(data) if rng.random() < 0.5 else min(len(data), 400)))
            match int(rng.integers(3)):
                case 0:
                    data[at] = int(rng.integers(256))
                case 1:
                    del data[at : at + int(rng.integers(1, 9))]
                case 2:
                    data[at : at + 4] = b"\xff" * 4
        if rng.random() < 0.2:
            del data[int(rng.integers(len(data))) :]
        (tmp_path / f"fuzz{name}").write_bytes(data)
        mapped = SWITCHED_MAP if name in ("a.csv", "a.npy") else fields
        try:
            n_frames += len(data_of(table(tmp_path / f"fuzz{name}", fields=mapped)))
        except HilError as error:
            assert isinstance(error, DriverError)
            n_refused += 1
    return n_frames, n_refused


def test_mutated_files_are_refused_or_read(tmp_path):
    n_frames, n_refused = fuzz(tmp_path, 280, seed=1)
    assert n_frames > 100
    assert n_refused > 20


@pytest.mark.slow
def test_many_mutated_files(tmp_path):
    n_frames, n_refused = fuzz(tmp_path, 7000, seed=2)
    assert n_frames > 1000
    assert n_refused > 500
