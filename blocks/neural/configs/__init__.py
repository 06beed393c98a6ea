"""Configurations of the networks that are shipped: `hil train NAME` makes them again."""
