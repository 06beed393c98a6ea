from sim_device.servers.gnodeb.server import GnodebServer
from sim_device.servers.serve import main

raise SystemExit(main(GnodebServer))
