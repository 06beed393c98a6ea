"""Promises that hold across packages: what an import may do, and what a package says it exports."""

import importlib
import pkgutil
import subprocess
import sys
import types

import pytest

IMPORT_PROGRAM = """
import glob, importlib, os, sys, threading

def sockets():
    links = [os.readlink(path) for path in glob.glob("/proc/self/fd/*") if os.path.islink(path)]
    return {{link for link in links if link.startswith("socket:")}}

before = sockets()
for name in {names!r}:
    importlib.import_module(name)
    assert "zmq" not in sys.modules, f"importing {{name}} imported zmq"
    assert threading.active_count() == 1, f"importing {{name}} started a thread"
    assert sockets() == before, f"importing {{name}} opened a socket"
"""

PACKAGES = ("hil", "blocks", "drivers", "sim_device", "flowgraphs")


def module_names(package: str) -> list[str]:
    """Every module of a package, the package itself first; not ``__main__``, which runs on import."""
    root = importlib.import_module(package)
    walked = pkgutil.walk_packages(root.__path__, f"{package}.")
    return [package, *(m.name for m in walked if not m.name.endswith("__main__"))]


def package_names() -> list[str]:
    return [
        name
        for package in PACKAGES
        for name in module_names(package)
        if hasattr(importlib.import_module(name), "__path__")
    ]


def test_importing_every_block_imports_no_transport_and_opens_nothing():
    names = module_names("blocks")
    program = IMPORT_PROGRAM.format(names=names)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", package_names())
def test_all_lists_what_the_package_exports(package):
    module = importlib.import_module(package)
    if not hasattr(module, "__all__"):
        pytest.skip(f"{package} declares no __all__")
    declared = list(module.__all__)
    assert len(declared) == len(set(declared)), "a name is listed twice"
    missing = [name for name in declared if not hasattr(module, name)]
    assert not missing, f"{package}.__all__ names what is not there: {missing}"
    leaked = sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name not in declared
    )
    assert not leaked, f"{package} exports what its __all__ does not name: {leaked}"
