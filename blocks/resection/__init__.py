"""Bearings of known beacons to the position and heading of the receiver itself."""
