"""srsRAN's ZeroMQ radio."""
