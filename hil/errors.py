"""One error tree. Every message says who, what came, what was expected and, where there is one, the fix.

::

    HilError
    |- ParamError          a parameter is of the wrong type or out of its limits
    |- PortError           an array does not fit a port
    |- WireError           bytes from outside that are not a frame
    |- GraphError          a graph that cannot run as it is drawn
    |- ControlError        a control request that was refused or not answered
    |- CalibrationError    a calibration that does not belong to these data
    |- EstimationError     data from which nothing can be estimated
    |- RecordingError      a file that cannot be written or read
    |- DriverError         a device, feed or file that cannot be read
    |  `- DriverTimeout    ... in time
    `- RunError            a running graph failed
       |- BlockError       in a block: names the block, the frame and the cause
       |- WorkerError      in a worker process: died, hung or did not start
       `- EdgeOverflow     an edge whose policy is "fail" was full
"""


class HilError(Exception):
    """Base of all errors that this project raises on purpose."""


class ParamError(HilError):
    """A parameter is of the wrong type or out of its limits."""


class PortError(HilError):
    """An array does not fit a port."""


class WireError(HilError):
    """Bytes from outside that are not a frame."""


class GraphError(HilError):
    """A graph that cannot run as it is drawn."""


class ControlError(HilError):
    """A control request that was refused or not answered."""


class CalibrationError(HilError):
    """A calibration that does not belong to these data."""


class EstimationError(HilError):
    """Data from which nothing can be estimated."""


class RecordingError(HilError):
    """A file that cannot be written or read."""


class DriverError(HilError):
    """A device, feed or file that cannot be read."""


class DriverTimeout(DriverError):
    """A device that did not answer in time."""


class RunError(HilError):
    """A running graph failed."""


class BlockError(RunError):
    """A block failed: names the block, the frame and the cause."""


class WorkerError(RunError):
    """A worker process died, hung or did not start."""


class EdgeOverflow(RunError):
    """An edge whose policy is ``fail`` was full."""
