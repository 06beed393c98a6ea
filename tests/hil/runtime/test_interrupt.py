"""Ctrl-C while workers are still being started."""

from __future__ import annotations

import signal

import pytest

from hil.runtime.workers import Workers
from tests.hil.cli.circling import Settings, build


def test_interrupted_while_starting_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn_all = Workers.spawn_all

    def spawn_and_interrupt(self: Workers) -> None:
        spawn_all(self)
        signal.raise_signal(signal.SIGINT)  # no worker has said hello by now

    monkeypatch.setattr(Workers, "spawn_all", spawn_and_interrupt)
    summary = build(Settings()).run()
    assert [e["event"] for e in summary["events"]] == []  # above all not "not_drained"
    assert summary["frames"] == {}
