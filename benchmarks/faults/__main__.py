"""Each fault that a device can have, times each driver: how it is seen, how long until frames come again, and whether
what was lost is accounted for. Then 10,000 mutated messages against each decoder and each server: none crashes, hangs
or grows.
"""

from __future__ import annotations

import sys

from benchmarks.families import run

if __name__ == "__main__":
    sys.exit(run("faults", ("table", "decoders", "servers"), __doc__))
