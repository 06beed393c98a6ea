"""Tracks with identities from positions of single frames."""
