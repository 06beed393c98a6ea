"""The layers of the surrogate networks four ways: NumPy as the blocks run them, torch, torch.compile, onnxruntime.

One thread, batches of 1 and 64, the dense layers of the shipped weights and [NF]'s convolutional autoencoder. Results
agree to the rounding of float32, which is checked first. torch.compile needs a C++ compiler, and onnxruntime is no
dependency of the project (``pip install onnxruntime onnx onnxscript``): what is not there is left out.

Run: ``python -m benchmarks.nf_layers [--quick] [--json]``.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks.report import Report
from blocks.neural.fast_layers import FastAutoencoder, FastDense
from blocks.neural.surrogate_network import SurrogateConfig, SurrogateNetwork

F32 = npt.NDArray[np.float32]
Layers = Callable[[F32], F32]

_N_SENSORS, _N_SNAPSHOTS = 15, 100
_TOLERANCE = 1e-4


class _Dense(nn.Module):
    """The number of snapshots fixed, as an exported network has it."""

    def __init__(self, network: SurrogateNetwork) -> None:
        super().__init__()
        assert network.dense is not None
        self.dense = network.dense

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.dense(features[:, 0], _N_SNAPSHOTS)
        return out


class _Convolutions(nn.Module):
    def __init__(self, network: SurrogateNetwork) -> None:
        super().__init__()
        self.encode, self.decode = network.encode, network.decode

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.decode(self.encode(features))[:, 0]
        return out


def measure_layers(report: Report, *, rounds: int) -> None:
    """Add the rows to ``report``: medians over ``rounds`` calls, ways in turn."""
    for kind in ("dense", "convolution"):
        config = SurrogateConfig(n_sensors=_N_SENSORS, layers="dense" if kind == "dense" else "convolution")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = SurrogateNetwork(config).eval()
        module = (_Dense(network) if kind == "dense" else _Convolutions(network)).eval()
        n_lags = 1 if kind == "dense" else config.n_lags
        for n_batch in (1, 64):
            shape = (n_batch, n_lags, 2 * _N_SENSORS, _N_SENSORS)
            features = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
            times = _medians_ms(_ways(network, module, features), features, rounds)
            for way, median_ms in times.items():
                against = None if way == "NumPy" else f"{way}, {median_ms:.3g} ms"
                if against is not None:
                    ratio = median_ms / times["NumPy"]
                    report.add(
                        f"{kind} layers, batch {n_batch}", f"NumPy against {way}", times["NumPy"], "ms",
                        n=rounds, against=against, ratio=ratio,
                    )  # fmt: skip


def _ways(network: SurrogateNetwork, module: nn.Module, features: F32) -> dict[str, Layers]:
    fast = FastDense(network.dense) if network.dense else FastAutoencoder(network.encode, network.decode)

    def in_torch(run: Callable[[torch.Tensor], torch.Tensor]) -> Layers:
        def call(x: F32) -> F32:
            with torch.no_grad():
                return np.asarray(run(torch.from_numpy(x)).numpy())

        return call

    ways = {
        "NumPy": lambda x: fast(x, _N_SNAPSHOTS),
        "torch": in_torch(module),
    }
    if shutil.which("g++") is None:
        print("there is no g++: the rows of torch.compile are left out", file=sys.stderr)
    else:
        ways["torch.compile"] = in_torch(torch.compile(module))
    if importlib.util.find_spec("onnxruntime") is None:
        print("onnxruntime is not installed: its rows are left out", file=sys.stderr)
    else:
        ways["onnxruntime"] = _onnx(module, features)
    return ways


def _onnx(module: nn.Module, features: F32) -> Layers:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "layers.onnx"
        torch.onnx.export(module, (torch.from_numpy(features),), path, input_names=["x"], dynamo=False)
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {"x": x})[0])


def _medians_ms(ways: dict[str, Layers], features: F32, rounds: int) -> dict[str, float]:
    expected = ways["torch"](features)
    for name, way in ways.items():  # warms up as well
        off = float(np.abs(way(features) - expected).max())
        if off > _TOLERANCE * float(np.abs(expected).max()):
            raise SystemExit(f"{name} gives another result than torch: off by {off:.3g}")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(features)
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(t)) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nf_layers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    options = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    report = Report("nf_layers", as_json=options.json)
    with threadpool_limits(limits=1):
        measure_layers(report, rounds=20 if options.quick else 300)
    report.finish()


if __name__ == "__main__":
    main()
