"""Training that repeats to the bit, goes on where it was killed, and leaves a log to look at."""

from __future__ import annotations

import csv
import logging
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from msgspec import Meta
from torch import nn

from hil.errors import EstimationError, ParamError, RecordingError
from hil.params import Count, Params, Seed

log = logging.getLogger(__name__)

Tensor = torch.Tensor


class Data(Protocol):
    """Where batches come from: the same for the same number, whenever it is asked for."""

    def batch(self, number: int, n: int) -> dict[str, Any]:
        """Return ``n`` examples as NumPy arrays by name."""


@runtime_checkable
class FiniteData(Data, Protocol):
    """Data that end: examples that were recorded, each of them once before any comes again."""

    n_examples: int

    def examples(self, first: int, n: int) -> dict[str, Any]:
        """Return ``n`` examples from the ``first`` on, in the order of the batches."""


def at_most(data: Data, n: int) -> int:
    """``n``, or as many examples as there are."""
    return min(n, data.n_examples) if isinstance(data, FiniteData) else n


class Trainable(Protocol):
    """A network with its loss and its error."""

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]: ...

    def error(self, batch: dict[str, Tensor], cutoff_m: float) -> dict[str, float]: ...


class TrainParams(Params, frozen=True):
    """How to train."""

    seed: Seed = 0
    steps: Annotated[Count, Meta(description="batches to learn from, each of new examples")] = 2000
    batch_size: Annotated[Count, Meta(le=65536)] = 128
    examples: Annotated[
        Count | None, Meta(description="learn from so many examples over and over, as [NF]; absent: new ones each step")
    ] = None
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    schedule: Annotated[Literal["cosine", "constant"], Meta(description="of the learning rate")] = "cosine"
    warm_up: Annotated[int, Meta(ge=0, description="steps in which the learning rate rises")] = 100
    clip_norm: Annotated[float, Meta(gt=0, description="longest gradient")] = 1.0
    validate_every: Annotated[Count, Meta(description="steps")] = 200
    validation_examples: Count = 512
    cutoff_m: Annotated[float, Meta(gt=0, description="what a source costs that is not found")] = 50.0


class Checkpoint:
    """Network and optimizer in one file that is whole at any moment."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, step: int, seconds: float, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write what is needed to go on behind ``step``, after ``seconds`` of work."""
        temporary = self.path.with_suffix(".new")
        with temporary.open("wb") as file:
            torch.save(
                {"step": step, "seconds": seconds, "model": model.state_dict(), "optimizer": optimizer.state_dict()},
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
        """Put model and optimizer where they were; return how many steps were done, in how many seconds.

        Raises:
            RecordingError: There is none, or it is of another network.
        """
        try:
            state = torch.load(self.path, weights_only=True)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
        except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
            raise RecordingError(f"{self.path}: no checkpoint of this network to resume from: {error}") from error
        return int(state["step"]), float(state["seconds"])


class Trained(NamedTuple):
    """What came out: the last validation errors, and how long all of it took, pauses between runs left out."""

    errors: dict[str, float]
    seconds: float


def train(
    model: nn.Module,
    training: Data,
    validation: Data,
    params: TrainParams,
    directory: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Trained:
    """Train ``model`` in place.

    The weights after step ``n`` depend on the configuration and the seed alone, not on how often the run was killed and
    resumed: batches are asked for by number, and dropout is seeded by the step.

    Args:
        model: With ``loss`` and ``error`` (:class:`Trainable`).
        training: Where training batches come from.
        validation: Where validation batches come from.
        params: How.
        directory: For ``checkpoint.pt`` and ``log.csv``.
        resume: Go on from the checkpoint there.
        device: ``cpu`` or ``cuda``.
        on_step: Told each step's loss and, where it was validated, errors.

    Raises:
        RecordingError: There is a checkpoint and ``resume`` is not set, or none and it is.
        EstimationError: The loss is not finite.
    """
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(directory / "checkpoint.pt")
    if checkpoint.path.exists() and not resume:
        raise RecordingError(f"{checkpoint.path} is there already: --resume goes on from it, --out takes another place")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ParamError(f"device {device!r}: torch sees no CUDA device here; train with --device cpu")
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=params.learning_rate)
    done, before_s = checkpoint.load(model, optimizer) if resume else (0, 0.0)
    fixed = _tensors(validation.batch(0, at_most(validation, params.validation_examples)), device)
    errors: dict[str, float] = {}
    started = time.monotonic() - before_s
    with _Log(directory / "log.csv", done) as record:
        for step in range(done, params.steps):
            if hasattr(model, "progress"):  # one that is trained in stages
                model.progress = step / params.steps  # type: ignore[assignment]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(params, step)
            loss, parts = _step(
                model, optimizer, _tensors(_training_batch(training, params, step), device), params, step
            )
            row = {"step": step + 1, "loss": loss, **parts}
            last = step + 1 == params.steps
            if last or (step + 1) % params.validate_every == 0:
                model.eval()
                errors = model.error(fixed, params.cutoff_m)  # type: ignore[operator]
                with torch.no_grad():
                    errors["loss"] = float(model.loss(fixed)[0])  # type: ignore[operator]
                row |= {f"validation_{k}": v for k, v in errors.items()}
                seconds = time.monotonic() - started
                record.write({**row, "seconds": seconds})
                checkpoint.save(step + 1, seconds, model, optimizer)
            if on_step is not None:
                on_step(step + 1, row)
    return Trained(errors, time.monotonic() - started)


def learning_rate(params: TrainParams, step: int) -> float:
    """Rises over ``warm_up`` steps, then falls to a hundredth along half a cosine, or stays."""
    rise = min(1.0, (step + 1) / (params.warm_up + 1))
    if params.schedule == "constant":
        return params.learning_rate * rise
    along = min(1.0, step / params.steps)
    return params.learning_rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * along)))


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], params: TrainParams, step: int
) -> tuple[float, dict[str, float]]:
    model.train()
    optimizer.zero_grad(set_to_none=True)
    with torch.random.fork_rng():  # what dropout draws is this step's own, and nobody else's
        torch.manual_seed(params.seed * 1_000_003 + step)
        loss, parts = model.loss(batch)  # type: ignore[operator]
    if not torch.isfinite(loss):
        raise EstimationError(f"training: the loss of step {step + 1} is {float(loss)}: lower the learning rate")
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), params.clip_norm, error_if_nonfinite=True)
    optimizer.step()
    return float(loss.detach()), parts


def _training_batch(data: Data, params: TrainParams, step: int) -> dict[str, Any]:
    """New examples each step; of a fixed set, its batches in an order of the epoch's own."""
    if params.examples is None:
        return data.batch(step, params.batch_size)
    n_batches = max(1, params.examples // params.batch_size)
    epoch, place = divmod(step, n_batches)
    order = np.random.Generator(np.random.SFC64(np.random.SeedSequence(params.seed, spawn_key=(epoch,))))
    return data.batch(int(order.permutation(n_batches)[place]), params.batch_size)


def _tensors(batch: dict[str, Any], device: str) -> dict[str, Tensor]:
    return {name: torch.as_tensor(array, device=device) for name, array in batch.items()}


class _Log:
    """Rows of a CSV file, each on the disk when it is written; rows behind a resumed step are cut off."""

    def __init__(self, path: Path, done: int) -> None:
        rows = list(_rows_until(path, done)) if done else []
        self._file = path.open("w", newline="")
        self._writer: csv.DictWriter[str] | None = None
        for row in rows:
            self.write(row)

    def write(self, row: dict[str, Any]) -> None:
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


def _rows_until(path: Path, done: int) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open(newline="") as file:
            yield from (row for row in csv.DictReader(file) if int(row["step"]) <= done)
