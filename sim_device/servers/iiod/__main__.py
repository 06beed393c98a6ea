"""``python -m sim_device.servers.iiod model=fmcomms5 port=30431``."""

from sim_device.servers.iiod.server import IiodServer
from sim_device.servers.serve import main

raise SystemExit(main(IiodServer))
