"""iiod of libiio 0.24 as a server: an AD9361, an FMComms5, or a device of N complex channels on the simulated array."""
