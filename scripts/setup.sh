#!/usr/bin/env bash
# Make the environment $VENV (.venv) with the tested set of packages. Called by `make setup`; may be called again.
# PYTHON chooses the interpreter; without it the first of python3.11, python3.12, python3.13, python3 that is new enough.
# DEBIAN_PACKAGES=no leaves the Debian packages alone: what needs them says so, its tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        if ! new_enough "$PYTHON"; then
            echo "setup: PYTHON=$PYTHON does not run or is older than 3.11: name a newer one" >&2
            return 1
        fi
        echo "$PYTHON"
        return
    fi
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "setup: no Python 3.11 or newer on the path: install one (Debian 12: apt-get install python3) or set PYTHON" >&2
    return 1
}

# A venv without pip is one that an earlier, failed attempt left.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
        bash scripts/debian_packages.sh "$python cannot make a virtual environment without it" "python$version-venv"
    fi
    echo "setup: making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

echo "setup: installing hil-receiver and the tested set of packages (constraints.txt)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable '.[all,dev]'

# Only live devices need these, so a set-up without them is a set-up.
if ! bash scripts/device_packages.sh; then
    echo "setup: going on without them: \`hil doctor\` says what that leaves out, \`make devices\` tries again" >&2
fi
echo "setup: done; activate it with: source $venv/bin/activate"
