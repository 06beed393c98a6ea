"""How fast drivers read, beside the client library used plainly; a module a family with ``measure(quick)``."""
