"""What a picture shows, and that it is drawn whatever is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import RunError
from hil.frame import Frame, Header
from hil.view.history import History
from hil.view.picture import check_can_draw, draw_picture, errors_over_time

pytest.importorskip("matplotlib")


def header(seq: int) -> Header:
    return Header(stream="x", seq=seq, time_ns=10**7 * seq, frequency_hz=5e9)


def points(seq: int, position_m: Any, ids: Any = None) -> Frame:
    arrays = {"position_m": (np.array(position_m, dtype=float).reshape(-1, 3), "source xyz", "m")}
    if ids is not None:
        arrays["id"] = (np.array(ids, dtype=np.int64), "source", "")
    return Frame.of(header(seq), **arrays)


def estimates(seq: int, azimuth_rad: list[float], range_m: list[float]) -> Frame:
    return Frame.of(
        header(seq),
        azimuth_rad=(np.array(azimuth_rad), "source", "rad"),
        elevation_rad=(np.zeros(len(azimuth_rad)), "source", "rad"),
        range_m=(np.array(range_m), "source", "m"),
    )


def spectrum(seq: int, n_range: int) -> Frame:
    rng = np.random.default_rng(0)
    range_m = np.array([np.inf]) if n_range == 1 else np.array([*np.linspace(60, 4, n_range - 1), np.inf])
    return Frame.of(
        header(seq),
        spectrum_db=(rng.normal(size=(31, n_range)).astype(np.float32), "azimuth range", "dB"),
        azimuth_rad=(np.linspace(-1, 1, 31), "azimuth", "rad"),
        range_m=(range_m, "range", "m"),
    )


def whole_history(n_range: int = 8) -> History:
    history = History()
    array = ArrayGeometry.ula(64, 0.03)
    for add in (history.add_truth, history.add_estimates):
        add(descriptor_frame(header(0), array))
    for k in range(40):
        true = [[-9 + 0.2 * k, 16, 0], [12, 43 - 0.2 * k, 0]]
        history.add_truth(points(k, true, [1, 2]))
        history.add_positions(points(k, true if k > 3 else [], [0, 1] if k > 3 else []))
        history.add_estimates(estimates(k, [0.2, 0.1], [44.0, np.inf]))
    history.add_spectrum(spectrum(39, n_range))
    return history


def test_errors_are_of_the_best_pairing_and_of_frames_that_both_have() -> None:
    history = History()
    for k in range(3):
        history.add_truth(points(k, [[0, 10, 0], [5, 10, 0]], [1, 2]))
    history.add_positions(points(0, [[5, 10, 3], [0, 10, 4]]))  # the other way round
    history.add_positions(points(1, [[5, 12, 0]]))
    history.add_positions(points(2, []))
    history.add_positions(points(9, [[0, 0, 0]]))
    times, errors = errors_over_time(history.positions, history.truth)
    np.testing.assert_allclose(times, [0.0, 0.01])
    np.testing.assert_allclose(errors, [np.sqrt((9 + 16) / 2), 2.0])


def test_estimates_go_through_the_array_and_plane_waves_are_left_out() -> None:
    history = History()
    history.add_estimates(descriptor_frame(header(0), ArrayGeometry.ula(4, 0.03, origin_m=(1.0, 2.0, 3.0))))
    history.add_estimates(estimates(0, [np.pi / 2, 0.3], [7.0, np.inf]))
    np.testing.assert_allclose(history.estimates[0].position_m, [[8.0, 2.0, 3.0]], atol=1e-12)


@pytest.mark.parametrize("n_range", [8, 1])
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_whole_picture(tmp_path: Path, suffix: str, n_range: int) -> None:
    path = tmp_path / f"p{suffix}"
    draw_picture(whole_history(n_range), path, "test")
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize("missing", ["positions", "estimates", "truth", "spectrum", "array", "everything"])
def test_a_picture_of_what_there_is(tmp_path: Path, missing: str) -> None:
    history = History() if missing == "everything" else whole_history()
    if missing in ("positions", "estimates", "truth"):
        getattr(history, missing).clear()
    elif missing != "everything":
        setattr(history, missing, None)
    draw_picture(history, tmp_path / "p.png", "test")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"ends in \.png, \.svg, \.pdf"):
        check_can_draw(tmp_path / "p.bmp")
    with pytest.raises(RunError, match="there is no folder"):
        check_can_draw(tmp_path / "none" / "p.png")
