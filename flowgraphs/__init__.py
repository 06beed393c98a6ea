"""Named receivers: arguments, blocks, connections, run."""
