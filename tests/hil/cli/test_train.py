import json

import pytest

from tests.hil.cli.running import hil

TINY = [
    "--set=train.steps=4",
    "--set=train.batch_size=8",
    "--set=train.validate_every=2",
    "--set=train.validation_examples=8",
    "--set=model.network.channels=[2,2,2]",
]


def test_trains_is_killed_resumes_and_evaluates(tmp_path):
    out = tmp_path / "run"
    done = hil("train", "nf_subspacenet_n15", *TINY, "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    *rows, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert last["weights"] == str(out / "weights.safetensors")
    again = hil("train", "nf_subspacenet_n15", *TINY, "--out", str(out))
    assert again.exit_code != 0
    assert "--resume" in again.output.replace("\n", " ")
    more = hil("train", "nf_subspacenet_n15", *TINY, "--set=train.steps=6", "--out", str(out), "--resume")
    assert more.exit_code == 0, more.output
    told = hil("eval", last["weights"], "--n", "6", "--json", "--picture", str(tmp_path / "spectra.png"))
    assert told.exit_code == 0, told.output
    methods = [json.loads(line) for line in told.stdout.splitlines()]
    assert [m["method"] for m in methods] == ["network", "network + ML", "2D MUSIC", "2D MUSIC + ML"]
    assert {m["n"] for m in methods} == {6}
    assert (tmp_path / "spectra.png").read_bytes().startswith(b"\x89PNG")
    table = hil("eval", last["weights"], "--n", "3", "--data", "snr_db=[10,10]")
    assert "2D MUSIC + ML" in table.stdout


def test_a_configuration_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('system = "nf_subspacenet"\n[data.array]\nkind = "ula"\nn = 9\n[model.network]\nn_sensors = 9\n')
    done = hil("train", str(path), *TINY, "--out", str(tmp_path / "run"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "log.csv").read_text().startswith("step,loss")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nothing"], "no configuration 'nothing': there are "),
        (["train", "absent.toml"], "configuration absent.toml"),
        (["train", "nf_subspacenet_n15", "--set=train.steps=0"], "train.steps"),
        (["train", "nf_subspacenet_n15", "--set=system=x", *TINY], "no system 'x'"),
        (["eval", "absent.safetensors"], "no weights at absent.safetensors"),
        (["eval", "nf_subspacenet_n15", "--data", "snr=3"], "unknown field `snr`"),
        (["eval", "nf_subspacenet_n15", "--picture", "a.txt"], ".txt"),
    ],
)
def test_what_is_wrong_is_named(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = hil(*words)
    assert done.exit_code != 0
    assert message in done.output.replace("\n", " ").replace("  ", " ")
