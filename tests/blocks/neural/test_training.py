import csv

import numpy as np
import pytest
import torch

from blocks.neural.near_field_subspace_net import NearFieldSubspaceNet, NearFieldSubspaceNetConfig
from blocks.neural.training import TrainParams, learning_rate, train
from hil.errors import EstimationError, ParamError, RecordingError
from hil.params import convert_params
from sim_device.near_field_places import NearFieldPlaces

PLACES = {"array": {"kind": "ula", "n": 8}, "n_snapshots": 20, "n_sources": (1, 2), "coherent": True}
TRAIN = {"steps": 6, "batch_size": 8, "validate_every": 2, "validation_examples": 8, "warm_up": 2}


def network(**config):
    places = NearFieldPlaces(PLACES, 1, "train")
    torch.manual_seed(3)
    params = {"network": {"n_sensors": 8, "n_lags": 3, "channels": (2, 3, 4)}, **config}
    return NearFieldSubspaceNet(
        convert_params(NearFieldSubspaceNetConfig, params, "test"), places.array, places.wavelength_m
    )


def run(net, directory, *, resume=False, on_step=None, **changes):
    params = convert_params(TrainParams, {**TRAIN, **changes}, "test")
    data = (NearFieldPlaces(PLACES, 1, split) for split in ("train", "validation"))
    return train(net, *data, params, directory, resume=resume, on_step=on_step)


def weights(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


class Killed(Exception):
    pass


@pytest.mark.parametrize("order", ["none", "threshold", "eigenvalues"])
def test_killed_and_resumed_gives_the_weights_of_a_run_that_was_not(tmp_path, order):
    whole, killed = network(order=order), network(order=order)
    run(whole, tmp_path / "whole")

    def kill(step, row):
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        run(killed, tmp_path / "killed", on_step=kill)
    again = network(order=order)
    run(again, tmp_path / "killed", resume=True)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name]), name
    rows = [list(csv.DictReader((tmp_path / d / "log.csv").read_text().splitlines())) for d in ("whole", "killed")]
    assert [r["step"] for r in rows[0]] == [r["step"] for r in rows[1]] == ["2", "4", "6"]
    assert [r["loss"] for r in rows[0]] == [r["loss"] for r in rows[1]]


def test_learns_to_open_a_null_at_the_sources(tmp_path):
    net = network()
    seen = []
    run(
        net,
        tmp_path,
        steps=150,
        batch_size=32,
        validate_every=150,
        learning_rate=3e-3,
        on_step=lambda step, row: seen.append(row["loss"]),
    )
    assert np.mean(seen[-10:]) < 0.7 * np.mean(seen[:10])


def test_a_fixed_set_is_gone_through_once_an_epoch(tmp_path):
    class Counting:
        def __init__(self):
            self.asked = []
            self.places = NearFieldPlaces(PLACES, 1, "train")

        def batch(self, number, n):
            self.asked.append(number)
            return self.places.batch(number, n)

    data = Counting()
    params = convert_params(TrainParams, {**TRAIN, "examples": 24}, "test")
    train(network(), data, NearFieldPlaces(PLACES, 1, "validation"), params, tmp_path)
    assert sorted(data.asked[:3]) == sorted(data.asked[3:]) == [0, 1, 2]
    assert data.asked[:3] != data.asked[3:] or data.asked != [0, 1, 2, 0, 1, 2]


def test_training_leaves_the_global_generator_alone(tmp_path):
    net = network()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    run(net, tmp_path, steps=2)
    assert torch.equal(torch.rand(3), expected)


def test_does_not_write_over_what_is_there_nor_resume_from_nothing(tmp_path):
    run(network(), tmp_path / "a", steps=2)
    with pytest.raises(RecordingError, match="is there already"):
        run(network(), tmp_path / "a", steps=2)
    with pytest.raises(RecordingError, match="no checkpoint of this network"):
        run(network(), tmp_path / "b", resume=True)
    (tmp_path / "a" / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(RecordingError, match="no checkpoint of this network"):
        run(network(), tmp_path / "a", resume=True)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run(network(), tmp_path, steps=2)
    other = network(network={"n_sensors": 8, "n_lags": 3, "channels": (2, 3, 5)})
    with pytest.raises(RecordingError, match="no checkpoint of this network"):
        run(other, tmp_path, resume=True)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    net = network()
    with torch.no_grad():
        net.network.encode[0].weight.fill_(float("inf"))
    with pytest.raises((EstimationError, RuntimeError)):
        run(net, tmp_path, steps=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named(tmp_path):
    places = NearFieldPlaces(PLACES, 1, "train")
    with pytest.raises(ParamError, match="torch sees no CUDA device"):
        train(network(), places, places, TrainParams(steps=1), tmp_path, device="cuda")


def test_the_learning_rate_rises_and_falls():
    params = TrainParams(steps=1000, warm_up=10, learning_rate=1.0)
    rates = [learning_rate(params, step) for step in range(1000)]
    assert rates[0] < 0.1
    assert max(rates) > 0.99
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
    assert learning_rate(TrainParams(schedule="constant", warm_up=0, learning_rate=0.5), 99) == 0.5
