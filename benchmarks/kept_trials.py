"""Trials kept on disk in chunks, so that a long Monte Carlo can be stopped and goes on where it was."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

#: ``quantity -> method -> [trial, ...]``.
Tables = list[dict[str, npt.NDArray[np.float64]]]
#: Trials a file.
CHUNK = 50


def kept_trials(folder: Path | None, name: str, n_trials: int, run: Callable[[int, int], Tables]) -> Tables:
    """Results of trials 0 .. ``n_trials - 1``, from ``folder`` where they are there, else run and put there.

    Args:
        folder: ``None``: nothing is kept. Nothing tells which code made a file: empty it when an estimator changed.
        name: Of the case; names the files.
        n_trials: How many.
        run: ``(first, end)`` to tables of these trials.
    """
    parts = [_chunk(folder, name, i, min(i + CHUNK, n_trials), run) for i in range(0, n_trials, CHUNK)]
    joined: Tables = []
    for tables in zip(*parts, strict=True):
        lengths = [len(next(iter(table.values()))) if table else 0 for table in tables]
        methods = {method: table[method].shape[1:] for table in tables for method in table}
        joined.append(
            {
                method: np.concatenate(
                    [t.get(method, np.full((n, *shape), np.nan)) for t, n in zip(tables, lengths, strict=True)]
                )
                for method, shape in methods.items()
            }
        )
    return joined


def _chunk(folder: Path | None, name: str, first: int, end: int, run: Callable[[int, int], Tables]) -> Tables:
    if folder is None:
        return run(first, end)
    path = folder / f"{zlib.crc32(name.encode()):08x}_{first}_{end}.npz"
    if not path.exists():
        tables = run(first, end)
        folder.mkdir(parents=True, exist_ok=True)
        flat: dict[str, Any] = {f"{i}/{m}": values for i, table in enumerate(tables) for m, values in table.items()}
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez_compressed(file, n_tables=np.array(len(tables)), **flat)
        unfinished.rename(path)
        return tables
    with np.load(path) as stored:
        loaded: Tables = [{} for _ in range(int(stored["n_tables"]))]
        for key in stored.files:
            index, slash, method = key.partition("/")
            if slash:
                loaded[int(index)][method] = stored[key]
    return loaded
