"""Servers that speak the protocols of real hardware, on the one sample function of the simulated array."""
