"""The simulated array at a fixed port, its control socket at the next: started as protocol servers are."""

from __future__ import annotations

import argparse
import json
import sys

from sim_device.serve import die_with_parent, read_config, serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    die_with_parent(options.parent)
    told = read_config(options.config)
    frames, control = (f"tcp://127.0.0.1:{told['port'] + i}" for i in range(2))
    serve(told["device"], frames, control, lambda addresses: print(json.dumps(addresses), flush=True))
    sys.exit(0)
