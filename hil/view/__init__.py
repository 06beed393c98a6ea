"""Pictures of a run. Needs the extra ``plot``."""
