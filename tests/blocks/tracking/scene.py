"""Positions as an array at the origin would report them: errors drawn in angle and inverse range."""

import math

import numpy as np

#: One frame's standard deviations of a 64-element half-wave line array at 5 GHz, 10 dB, 100 snapshots.
AZIMUTH_STD_RAD = 4.8e-5
RANGE_STD_AT_30_M = 0.175


def detect(rng, position_m, *, range_std_at_30_m=RANGE_STD_AT_30_M):
    """Position ``[xyz]`` and covariance ``[xyz, xyz]`` of one noisy detection in the plane z = 0."""
    x, y, _ = position_m
    inverse_std = range_std_at_30_m / 30**2
    inverse = 1 / math.hypot(x, y) + inverse_std * rng.standard_normal()
    azimuth = math.atan2(x, y) + AZIMUTH_STD_RAD * rng.standard_normal()
    r = 1 / inverse
    along = np.array([math.sin(azimuth), math.cos(azimuth), 0.0])
    across = np.array([math.cos(azimuth), -math.sin(azimuth), 0.0])
    covariance = (
        np.outer(along, along) * (inverse_std * r**2) ** 2 + np.outer(across, across) * (AZIMUTH_STD_RAD * r) ** 2
    )
    return r * along, covariance


def stack(detections, rng=None):
    """Arrays of a list of detections, in random order where a generator is given."""
    order = list(range(len(detections)))
    if rng is not None:
        rng.shuffle(order)
    position = np.array([detections[i][0] for i in order]).reshape(-1, 3)
    covariance = np.array([detections[i][1] for i in order]).reshape(-1, 3, 3)
    return position, covariance
