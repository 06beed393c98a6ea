"""A 5G base station that measures sounding reference signals: T tracer on TCP, FAPI SRS.indication on UDP."""
