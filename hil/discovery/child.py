"""A question put to another process, which is ended when its time is over: device libraries hang and crash."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any


class ChildFailed(Exception):
    """It ended with an error, was ended, or said nothing that can be read; the text says which."""


def ask_child(command: Sequence[str], timeout_s: float, *, clean: bool = False) -> Any:
    """Run ``command`` and return the JSON on the last line of its standard output.

    Args:
        command: Program and arguments.
        timeout_s: It is killed after so long.
        clean: Without this interpreter's environment, for another one.

    Raises:
        ChildFailed: Says why.
    """
    environment = {k: v for k, v in os.environ.items() if not (clean and k.startswith("PYTHON"))}
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=timeout_s, env=environment, cwd="/", check=False
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"no answer in {timeout_s:.1f} s") from None
    except OSError as error:
        raise ChildFailed(f"{command[0]}: {error.strerror}") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        try:
            return json.loads(lines[-1])
        except ValueError:
            pass
    said = done.stderr.strip().splitlines()
    raise ChildFailed(said[-1] if said else f"it ended with status {done.returncode}")
