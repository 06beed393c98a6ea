"""``python -m sim_device.servers.usrp key=value ...``"""

from sim_device.servers.serve import main
from sim_device.servers.usrp.server import UsrpServer

raise SystemExit(main(UsrpServer))
