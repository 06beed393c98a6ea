"""A receiver behind GNU Radio's ZeroMQ sinks."""
