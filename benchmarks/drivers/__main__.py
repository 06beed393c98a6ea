"""What drivers read of their simulated devices, beside what the client library gives when it is used plainly.

Both read the same device in the same run, in turns; samples are compared before anything is timed. Ratios are medians
of neighbouring rounds. CPU is that of our reading processes, without the device's; age is from when the last sample of
a frame was there until the frame was.
"""

from __future__ import annotations

import sys

from benchmarks.families import run

if __name__ == "__main__":
    sys.exit(run("drivers", (), __doc__))
