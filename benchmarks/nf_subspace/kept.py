"""Errors kept on disk, so that weights that come later do not run again what is there."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.nf_subspace.score import Score


def kept(folder: Path | None, what: str, run: Callable[[], Score | None]) -> Score | None:
    """What ``run`` gives, from ``folder`` where it is there, else put there.

    Args:
        folder: None: nothing is kept. Nothing tells which code made a file: empty it when an estimator changed.
        what: Names it.
        run: None is not kept.
    """
    if folder is None:
        return run()
    path = folder / f"{zlib.crc32(what.encode()):08x}.npz"
    if path.exists():
        with np.load(path) as stored:
            return Score(*(stored[name] for name in Score._fields))
    made = run()
    if made is not None:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez_compressed(file, **made._asdict())
        unfinished.rename(path)
    return made
