"""The simulated array: physics, impairments and the server that makes it a device."""
