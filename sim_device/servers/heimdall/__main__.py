from sim_device.servers.heimdall.server import HeimdallServer
from sim_device.servers.serve import main

if __name__ == "__main__":
    raise SystemExit(main(HeimdallServer))
