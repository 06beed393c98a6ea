"""Which devices can be reached: each family asked in its own protocol, in parallel, for a limited time."""
