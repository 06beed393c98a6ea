from sim_device.servers.serve import main
from sim_device.servers.srsran.server import SrsRanServer

if __name__ == "__main__":
    raise SystemExit(main(SrsRanServer))
