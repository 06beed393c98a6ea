"""Commands to the simulated array, as methods of its driver. The device checks the values."""

from __future__ import annotations

from typing import Any, ClassVar

from hil.params import Index


class XlArrayVerbs:
    """What the control plane may call on the driver; each asks the device and returns its answer."""

    names: ClassVar[tuple[str, ...]] = (
        "start",
        "stop",
        "stall",
        "device_get",
        "device_set",
        "device_stats",
        "move_source",
        "add_source",
        "remove_source",
        "set_power",
        "inject_fault",
        "clear_fault",
        "faults",
        "tune",
        "set_gain",
        "set_sample_rate",
        "drop_samples",
    )

    def ask(self, verb: str, **args: Any) -> Any:
        """Hand a command to the device."""
        raise NotImplementedError

    def start(self) -> None:
        """Let the device's stream run."""
        self.ask("start")

    def stop(self) -> None:
        """Let the device's stream stand."""
        self.ask("stop")

    def stall(self, seconds: float) -> None:
        """Let the device give nothing for a while."""
        self.ask("stall", seconds=seconds)

    def device_get(self, path: str = "") -> Any:
        """Return a parameter of the device."""
        return self.ask("get", path=path)

    def device_set(self, path: str, value: Any) -> Any:
        """Set a parameter of the device."""
        return self.ask("set", path=path, value=value)

    def device_stats(self) -> dict[str, Any]:
        """Return the device's counters."""
        return dict(self.ask("stats"))

    def move_source(self, id: Index, position_m: list[float], velocity_m_per_s: list[float] | None = None) -> None:
        """Put a source at a point of the world."""
        self.ask("move_source", id=id, position_m=position_m, velocity_m_per_s=velocity_m_per_s or [0.0, 0.0, 0.0])

    def add_source(self, source: dict[str, Any]) -> None:
        """Add a source."""
        self.ask("add_source", source=source)

    def remove_source(self, id: Index) -> None:
        """Remove a source."""
        self.ask("remove_source", id=id)

    def set_power(self, id: Index, power_db: float) -> None:
        """Set the power of a source, dBFS."""
        self.ask("set_power", id=id, power_db=power_db)

    def inject_fault(
        self, element: Any, kind: str = "phase", phase_rad: float | None = None, gain_db: float = -10.0
    ) -> list[int]:
        """Break elements."""
        return list(self.ask("inject_fault", element=element, kind=kind, phase_rad=phase_rad, gain_db=gain_db))

    def clear_fault(self, element: Any = "all") -> list[int]:
        """Make elements whole again."""
        return list(self.ask("clear_fault", element=element))

    def faults(self) -> list[dict[str, Any]]:
        """Return the faulty elements."""
        return list(self.ask("faults"))

    def tune(self, frequency_hz: float) -> int:
        """Set the centre frequency. Return the device's epoch."""
        return int(self.ask("tune", frequency_hz=frequency_hz))

    def set_gain(self, gain_db: float) -> int:
        """Set the gain. Return the device's epoch."""
        return int(self.ask("set_gain", gain_db=gain_db))

    def set_sample_rate(self, sample_rate_hz: float) -> int:
        """Set the sample rate. Return the device's epoch."""
        return int(self.ask("set_sample_rate", sample_rate_hz=sample_rate_hz))

    def drop_samples(self, n: int = 1) -> None:
        """Let the device lose samples."""
        self.ask("drop_samples", n=n)
