import pytest

from hil.errors import ControlError, HilError, ParamError
from sim_device.paths import get_path, with_path
from sim_device.serve import read_settings

PLAIN = {"gain_db": 1.0, "sources": [{"id": 4}, {"id": 5}]}


def test_get_and_set():
    assert get_path(PLAIN, "") == PLAIN
    assert get_path(PLAIN, "sources.1.id") == 5
    assert with_path(PLAIN, "sources.1.id", 6) == {"gain_db": 1.0, "sources": [{"id": 4}, {"id": 6}]}
    assert PLAIN["sources"][1] == {"id": 5}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gain", "gain: no parameter 'gain'; there are gain_db, sources"),
        ("sources.2", "sources.2: expected a place from 0 to 1, got '2'"),
        ("sources.x", "expected a place from 0 to 1, got 'x'"),
        ("gain_db.x", "gain_db.x: 'x' lies inside a plain value"),
    ],
)
def test_refusals(path, message):
    with pytest.raises(ControlError, match=message):
        get_path(PLAIN, path)
    with pytest.raises(ControlError, match=message):
        with_path(PLAIN, path, 0)


def test_settings_go_on_top_of_the_file_and_of_default_groups(tmp_path):
    file = tmp_path / "device.json"
    file.write_text('{"seed": 7, "mismatch": {"gain_std_db": 1}, "sources": [{"id": 3}]}')
    assert read_settings(str(file), ["seed=8", "mismatch.phase_std_rad=0.1", "array.n=32", "sources.0.id=4"]) == {
        "sources": [{"id": 4}],
        "seed": 8,
        "mismatch": {"gain_std_db": 1, "phase_std_rad": 0.1},
        "array": {**read_settings(None, ["array.n=64"])["array"], "n": 32},
    }
    assert read_settings(None, ["array.n=32"])["array"]["kind"] == "ula"
    assert read_settings(None, ["array.kind=ura", "array.nx=4"]) == {"array": {"kind": "ura", "nx": 4}}
    assert read_settings(None, ["array.array_id=north"])["array"]["array_id"] == "north"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["gain_db"], "expected key=value, got 'gain_db'"),
        (["sources.0.id=1"], "list is empty"),
        (["seed.x=1"], "seed.x: .*int"),
    ],
)
def test_settings_that_cannot_be_read(settings, message):
    with pytest.raises(HilError, match=message):
        read_settings(None, settings)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ParamError, match="No such file"):
        read_settings(str(tmp_path / "none.json"), [])
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ParamError, match="expected a JSON object, got a list"):
        read_settings(str(tmp_path / "list.json"), [])
