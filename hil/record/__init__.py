"""Recordings: written while running, safe from crashes, read and described afterwards."""

from hil.record.inspect import describe_recording
from hil.record.recorder import Recorder, RecorderParams
from hil.record.recording import Recording, open_recording
from hil.record.writer import RecordingWriter, open_writer

__all__ = [
    "Recorder",
    "RecorderParams",
    "Recording",
    "RecordingWriter",
    "describe_recording",
    "open_recording",
    "open_writer",
]
