"""Formats that others published: pure functions between bytes and named tuples, for whoever speaks them."""
