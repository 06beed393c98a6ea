"""How fast frames go from one process to another, beside what others do and what the machine can."""
