"""Tests that run: channels read from a device and compared, and a whole receiver on the simulated array."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from hil.block import Block
from hil.doctor.finding import Finding
from hil.errors import HilError
from hil.frame import Frame
from hil.graph import Graph
from hil.source import Source

C64 = npt.NDArray[np.complex64]
#: Frames that are compared, and frames of the whole receiver.
N_FRAMES = 20
#: One signal on all channels, 30 dB above the noise, is as coherent as this and its phases stand as still.
_COHERENCE, _DEVIATION_RAD = 0.98, 0.05
#: Position error of the simulated receiver; without noise at these ranges the bound is a tenth of it.
_RMSE_M = 2.0


def check_coherence(source: Source, to_complex: Block, timeout_s: float = 30.0) -> Finding:
    """Read frames of the first output and say whether its channels keep their phases.

    The channels must hear a common signal: a tone fed to all of them, or one transmitter that does not move.

    Args:
        source: A driver that is not open.
        to_complex: Block from what the driver gives to complex ``[sensor, snapshot]``.
        timeout_s: For opening it and for the frames.
    """
    what = f"coherence of {source.name}"
    try:
        frames, seconds = _read(source, to_complex, timeout_s)
    except HilError as error:
        return Finding("test", what, "fail", str(error), "see `hil devices` and the driver's page in docs/devices")
    if len(frames) < 2:
        return Finding("test", what, "fail", f"{len(frames)} frames in {seconds:.1f} s", "see to the device")
    lost = sum(f.header.lost.frames + f.header.lost.samples for f in frames[1:])
    samples: list[C64] = [f["iq"] for f in frames]
    n_channels = len(samples[0])
    rate = sum(x.shape[-1] for x in samples) / seconds
    says = f"{len(frames)} frames of {n_channels} channels, {rate / 1e6:.3g} MS/s a channel"
    if lost:
        return Finding(
            "test", what, "warn", f"{says}, {lost} lost", "smaller rate or larger buffers, see socket buffers"
        )
    coherence, deviation_rad, silent = compare_channels(samples)
    if silent:
        fix = "see to antennas, gains and the noise source"
        return Finding("test", what, "warn", f"{says}: channels {silent} are silent", fix)
    says += f": coherence {coherence:.3f} or more, phases stand still within {deviation_rad:.3f} rad"
    if coherence < _COHERENCE or deviation_rad > _DEVIATION_RAD:
        fix = "feed one tone to all channels; with it: one clock for all devices, then calibrate (docs/devices)"
        return Finding("test", what, "warn", says, fix)
    return Finding("test", what, "ok", says)


def compare_channels(samples: list[C64]) -> tuple[float, float, list[int]]:
    """Return how channels compare with the first of them.

    Args:
        samples: Of each frame, ``[sensor, snapshot]``.

    Returns:
        The least coherence of any channel in any frame (0..1), the largest root mean square deviation of a channel's
        relative phase about its mean over the frames (radians), and the silent channels.
    """
    covariance = np.stack([(x @ x.conj().T) / x.shape[-1] for x in samples]).astype(np.complex128)
    power = np.einsum("fmm->fm", covariance).real
    silent = np.flatnonzero((power <= 0).any(axis=0)).tolist()
    if silent:
        return 0.0, 0.0, silent
    relative = covariance[:, :, 0] / np.sqrt(power * power[:, :1])
    mean = relative.sum(axis=0)
    deviation = np.sqrt(np.mean(np.angle(relative * mean.conj()) ** 2, axis=0))
    return float(np.abs(relative).min()), float(deviation.max()), []


def check_receiver(graph: Graph, n_frames: int = N_FRAMES) -> Finding:
    """Run a whole graph for some frames: processes, edges, estimator, comparison with the truth."""
    what = f"receiver {graph.name}"
    start = time.monotonic()
    try:
        result = graph.run(frames=n_frames)
    except HilError as error:
        return Finding("test", what, "fail", str(error), f"hil run {graph.name} -v")
    errors = [node["stats"]["rmse_m"] for node in result["nodes"].values() if "rmse_m" in node["stats"]]
    took = f"{n_frames} frames in {time.monotonic() - start:.1f} s"
    drops = {cause: n for cause, n in result["drops"].items() if n}
    known: list[Any] = [e for e in errors if e is not None]
    if not known or min(known) > _RMSE_M:
        found = f"{min(known):.2f} m" if known else "no positions"
        return Finding("test", what, "fail", f"{took}, position error {found}", f"hil run {graph.name}, and report it")
    says = f"{took}, position error {min(known):.2f} m"
    if drops:
        return Finding("test", what, "warn", f"{says}, dropped {drops}", "end what else keeps this host busy")
    return Finding("test", what, "ok", says)


def _read(source: Source, to_complex: Block, timeout_s: float) -> tuple[list[Frame], float]:
    """Data frames of the first output as complex samples, and how long they took from the first to the last."""
    port = next(iter(source.outputs))
    frames: list[Frame] = []
    end = time.monotonic() + timeout_s
    first = 0.0
    try:
        source.open()
        while len(frames) < N_FRAMES and time.monotonic() < end:
            reading = source.read(0.2)
            if reading is None:
                break
            for name, frame in reading:
                converted = to_complex.feed("raw", frame) if name == port else []
                frames += [f.copy() for _, f in converted if f.header.kind == "data"]
                first = first or (time.monotonic() if frames else 0.0)
        return frames, max(time.monotonic() - first, 1e-6) if first else timeout_s
    finally:
        source.close()
