"""Gain and phase calibration: estimated from emitters at known directions, saved with its validity, applied."""
