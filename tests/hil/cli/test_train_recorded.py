"""``hil record``, ``hil train`` and ``hil eval``: an array of one's own, from its capture to its errors."""

import json

import numpy as np
import pytest

from blocks.neural.recorded_places import RecordedPlaces
from hil.frame import Frame, Header
from hil.record import open_recording, open_writer
from tests.blocks.neural.captures import ARRAY, FREQUENCY_HZ, SOURCES, record
from tests.hil.cli.running import hil

CONFIG = """
system = "nf_subspacenet"
data_factory = "blocks.neural.recorded_places:RecordedPlaces"
[model]
learn_positions = true
[model.network]
n_sensors = 9
layers = "dense"
hidden = 16
[data]
paths = ["capture.mcap"]
rounds = 1
apart_m = 0.3
[train]
steps = 2
batch_size = 16
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(CONFIG)
    return tmp_path


def said(done):
    return " ".join(done.output.split())


def test_trains_and_evaluates_what_was_recorded(here):
    record(here / "capture.mcap", n_frames=60)
    done = hil("train", "mine.toml", "--json")
    assert done.exit_code == 0, done.output
    weights = "out/mine/weights.safetensors"
    told = hil("eval", weights, "--json")
    assert told.exit_code == 0, told.output
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert {row["n"] for row in rows} == {7}  # of the 1000 that are asked for
    assert rows[0]["data"]["snr_estimated"] is True
    # another recording of the same array, and one of another
    record(here / "other.mcap", n_frames=20, seed=8)
    told = hil("eval", weights, "--json", "--data", 'test_paths=["other.mcap"]')
    assert 10 < json.loads(told.stdout.splitlines()[0])["n"] <= 20
    record(here / "narrow.mcap", n_frames=20, array={**ARRAY, "spacing_m": 0.45})
    refused = hil("eval", weights, "--data", 'test_paths=["narrow.mcap"]', "--data", "range_m=[2,20]")
    assert refused.exit_code == 1
    assert "weights for 'xl-array' at 299.792 MHz" in said(refused)
    assert "elements differ by 0.2 wavelengths" in said(refused)
    gone = hil("eval", weights, "--data", 'test_paths=["gone.mcap"]')
    assert "cannot read gone.mcap: No such file" in said(gone)


@pytest.mark.parametrize(
    ("streams", "words", "message"),
    [
        ((), [], "cannot read capture.mcap: No such file"),
        (("iq",), [], "capture.mcap has no stream 'truth', it has iq: training needs samples and the true positions"),
        (("iq", "truth"), ["--set=data.rounds=9"], "has parts of 0.0503 s, and 0.2 s are lost between them"),
        (("iq", "truth"), ["--set=data.path=x"], "data: Object contains unknown field `path`"),
        (("iq", "truth"), ['--set=data.paths=["mine.toml"]'], "mine.toml: expected a name that ends in .mcap"),
        (
            ("iq", "truth"),
            ["--set=model.network.n_sensors=10"],
            "made for 10 sensors, the samples have 9: set its n_sensors",
        ),
    ],
)
def test_what_is_wrong_is_named(here, streams, words, message):
    if streams:
        record(here / "capture.mcap", n_frames=60, streams=streams)
    done = hil("train", "mine.toml", *words)
    assert done.exit_code == 1
    assert message in said(done)


def test_truth_may_be_written_afterwards_from_a_table(here):
    """As the page on networks shows it: samples of a device that knows no truth, places from a log of one's own."""
    recorded = record(here / "recorded.mcap", n_frames=60)
    table = []
    writer = open_writer(here / "field.mcap")
    with open_recording(recorded) as recording:
        for frame in recording.frames():
            if frame.header.stream == "iq":
                writer.write(Frame(frame.header.replace(timebase="host"), frame.arrays))
            elif frame.header.kind == "data":
                places = zip(frame["id"], frame["position_m"], strict=True)
                table += [(frame.header.time_ns / 1e9, i, *p) for i, p in places]
    writer.close()

    writer = open_writer(here / "capture.mcap")
    with open_recording(here / "field.mcap") as recording:
        for frame in recording.frames():
            writer.write(frame)
    rows = np.array(table)
    for seq, time_s in enumerate(np.unique(rows[:, 0])):
        now = rows[rows[:, 0] == time_s]
        header = Header("truth", seq, time_ns=round(time_s * 1e9), timebase="utc")
        place = {"position_m": (now[:, 2:], "source xyz", "m"), "id": (now[:, 1].astype(np.int64), "source", "")}
        writer.write(Frame.of(header, **place))
    writer.close()

    params = {"rounds": 1, "apart_m": 0.3}
    ours, device = (RecordedPlaces({"paths": [p], **params}, 1, "train") for p in ("capture.mcap", "recorded.mcap"))
    for name, values in device.batch(0, 20).items():
        np.testing.assert_allclose(ours.batch(0, 20)[name], values, rtol=1e-9, err_msg=name)


@pytest.mark.slow
def test_the_simulated_device_is_recorded_trained_on_and_evaluated(here):
    """The commands of the page on networks, with a shorter capture and a shorter training."""
    device = {"array": ARRAY, "frequency_hz": FREQUENCY_HZ, "sources": SOURCES, "real_time": False, "n_frames": 200}
    device |= {"n_snapshots": 64, "frame_period_s": 0.0512, "displacement": {"most_wavelengths": 0.2}}
    settings = ["--set", "embedded=true", "--set", f"device={json.dumps(device)}"]
    recorded = hil("record", "xl-array", "capture.mcap", *settings)
    assert recorded.exit_code == 0, recorded.output
    done = hil(
        "train", "mine.toml", "--set=train.steps=150", "--set=train.learning_rate=5e-3", "--set=train.warm_up=10"
    )
    assert done.exit_code == 0, done.output
    told = hil("eval", "out/mine/weights.safetensors", "--json", "--picture", "spectra.png")
    assert told.exit_code == 0, told.output
    rows = {r["method"]: r for r in map(json.loads, told.stdout.splitlines())}
    assert rows["2D MUSIC + ML, positions learned"]["median_m"] < 0.5 * rows["2D MUSIC + ML"]["median_m"]
    assert (here / "spectra.png").exists()
