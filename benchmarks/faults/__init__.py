"""What drivers make of each fault, and decoders and servers of damaged messages; modules with ``measure(quick)``."""
