"""Findings on hosts made up of a few files and programs."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path
from typing import NamedTuple

import pytest

from hil.discovery.child import ChildFailed
from hil.doctor import device_libraries, host, packages, permissions
from hil.doctor.finding import Finding, worst


class Interpreter(NamedTuple):
    path: str
    version: str | None
    why_not: str | None = None


def programs(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_worst() -> None:
    findings = [Finding("host", "a", "ok", "x"), Finding("host", "b", "warn", "x", "do")]
    assert worst([]) == "ok" and worst(findings) == "warn"
    assert worst([*findings, Finding("test", "c", "fail", "x", "do")]) == "fail"


@pytest.mark.parametrize(
    ("version", "specifier", "fits"),
    [
        ("1.9.1", ">=1.9,<2", True),
        ("2.0", ">=1.9,<2", False),
        ("1.10", ">=1.9", True),
        ("2.13.0+cpu", "==2.13.0", True),
        ("2.13.1", "==2.13.0", False),
        ("0.25", "<1", True),
        ("1.0", "<1", False),
        ("2.0", ">=2.0.0", True),
        ("1.4.5", "~=1.4.2", True),
        ("1.5", "~=1.4.2", False),
        ("3", "", True),
        ("3.0rc1", ">=3", True),
    ],
)
def test_versions(version: str, specifier: str, fits: bool) -> None:
    assert packages.fits(version, specifier) == fits


def test_a_missing_package_is_named_with_its_extra() -> None:
    wanted = [("numpy", ">=2.0"), ("no-such-package-of-anybody", ">=1")]
    finding = packages.check_extra("radio", wanted)
    assert (finding.state, finding.remedy) == ("warn", "pip install 'hil-receiver[radio]'")
    assert finding.says == "no-such-package-of-anybody is missing"
    assert packages.check_extra("", wanted).state == "fail"
    old = packages.check_extra("", [("numpy", ">=99")])
    assert old.state == "fail" and "wanted >=99" in old.says
    assert all(finding.state != "fail" for finding in packages.check_packages())


def test_uhd_by_the_interpreters_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, uhd_find_devices="", uhd_usrp_probe="", uhd_config_info="echo 'UHD 4.3.0.0+ds1-5'")
    monkeypatch.setenv("PATH", str(tmp_path))
    own = Interpreter("/venv/bin/python", None, "No module named 'uhd'")
    there, tools = device_libraries.check_uhd([own, Interpreter("/usr/bin/python3", "4.3.0")])
    assert (there.state, tools.state) == ("ok", "ok") and "/usr/bin/python3" in there.says
    there, tools = device_libraries.check_uhd([own, Interpreter("/usr/bin/python3", "4.6.0")])
    assert tools.state == "warn" and "4.3.0" in tools.says and "4.6.0" in tools.says
    (tmp_path / "uhd_usrp_probe").unlink()
    there, tools = device_libraries.check_uhd([own])
    assert there.remedy == "sudo apt-get install python3-uhd" and "No module named 'uhd'" in there.says
    assert tools.remedy == "sudo apt-get install uhd-host" and "uhd_usrp_probe" in tools.says


@pytest.mark.parametrize(
    ("told", "state", "words"),
    [
        ([[0, 24], "0.25", ["ip", "usb"]], "ok", "libiio 0.24, pylibiio 0.25"),
        ([[0, 24], "1.0", []], "warn", "do not fit"),
        (ChildFailed("undefined symbol: iio_context_foo"), "warn", "undefined symbol"),
    ],
)
def test_libiio_and_its_binding_fit(told: object, state: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(command: list[str], timeout_s: float) -> object:
        if "adi" in command[2]:
            return "0.0.21"
        if isinstance(told, Exception):
            raise told
        return told

    monkeypatch.setattr(device_libraries, "ask_child", ask)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: "libiio.so.0")
    binding, adi, _ = device_libraries.check_iio()
    assert (binding.state, adi.state) == (state, "ok") and words in binding.says
    assert bool(binding.remedy) == (state != "ok")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    missing, _ = device_libraries.check_iio()
    assert missing.remedy == "sudo apt-get install libiio0"


def test_gnuradio_is_wished_for_not_needed(tmp_path: Path) -> None:
    programs(tmp_path, new="echo '\"3.10.5.1\"'", old="echo '\"3.7.14\"'", none="exit 1")
    states = [next(device_libraries.check_gnuradio(str(tmp_path / name))).state for name in ("new", "old", "none")]
    assert states == ["ok", "warn", "warn"]


def test_usb_radios_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices, nodes = tmp_path / "sys", tmp_path / "dev"
    assert "no radio" in permissions.check_usb(devices, nodes).says
    for i, (vendor, product, name) in enumerate([("0456", "b673", "PlutoSDR"), ("0bda", "0316", "Card reader")]):
        (devices / f"1-{i}").mkdir(parents=True)
        for key, value in {
            "idVendor": vendor,
            "idProduct": product,
            "product": name,
            "busnum": "1",
            "devnum": str(i),
        }.items():
            (devices / f"1-{i}" / key).write_text(value + "\n")
    refused = permissions.check_usb(devices, nodes)
    assert refused.state == "fail" and "libiio0" in refused.remedy and "Card" not in refused.says
    (nodes / "001").mkdir(parents=True)
    (nodes / "001" / "000").touch()
    assert permissions.check_usb(devices, nodes) == Finding("permissions", "USB", "ok", "may be opened: PlutoSDR")


def test_realtime_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (0, 0))
    assert "limits.d" in permissions.check_realtime().remedy
    monkeypatch.setattr(resource, "getrlimit", lambda which: (0, 99))
    assert permissions.check_realtime().state == "ok"


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "may not be written" in permissions.check_shared_memory(tmp_path / "none").says
    monkeypatch.setattr(permissions, "_SHM_BYTES", 1 << 60)
    assert "--shm-size" in permissions.check_shared_memory(tmp_path).remedy
    monkeypatch.setattr(permissions, "_SHM_BYTES", 1)
    assert permissions.check_shared_memory(tmp_path).state == "ok"


@pytest.mark.parametrize(
    ("n_bytes", "state", "words"),
    [
        (212_992, "warn", "too little for 1 gigabit"),
        (4_194_304, "warn", "enough for 1 gigabit"),
        (33_554_432, "ok", "33.6 MB"),
    ],
)
def test_socket_buffers(n_bytes: int, state: str, words: str, tmp_path: Path) -> None:
    for name in ("rmem_max", "wmem_max"):
        (tmp_path / name).write_text(f"{n_bytes}\n")
    finding = host.check_socket_buffers(tmp_path)
    assert finding.state == state and words in finding.says
    assert ("sysctl" in finding.remedy) == (state == "warn")


def test_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.check_socket_buffers(tmp_path / "none").state == "ok"
    assert host.check_governor(tmp_path).state == "ok"
    (tmp_path / "cpu0" / "cpufreq").mkdir(parents=True)
    governor = tmp_path / "cpu0" / "cpufreq" / "scaling_governor"
    governor.write_text("powersave\n")
    assert "cpupower" in host.check_governor(tmp_path).remedy
    governor.write_text("performance\n")
    assert host.check_governor(tmp_path).state == "ok"
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert host.check_processors().state == "warn"
    assert host.check_clock().state in ("ok", "warn")
    monkeypatch.setattr(host, "_DISK_BYTES", 1 << 70)
    assert host.check_disk(tmp_path).state == "warn"
    assert next(host.check_host(tmp_path)).what == "socket buffers"


def test_every_trouble_has_a_remedy(tmp_path: Path) -> None:
    for finding in [*permissions.check_permissions(), *host.check_host(tmp_path), *packages.check_packages()]:
        assert bool(finding.remedy) == (finding.state != "ok"), finding
