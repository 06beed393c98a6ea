"""How far estimates are from the truth: matching, errors, and what a missed or extra source costs."""
