"""Localization with faulty elements, after [HI]: detection, calibration and positions, estimated together."""
