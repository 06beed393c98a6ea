from sim_device.servers.gnuradio.server import GnuRadioServer
from sim_device.servers.serve import main

if __name__ == "__main__":
    raise SystemExit(main(GnuRadioServer))
