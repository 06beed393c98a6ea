"""From what a converter gives to what estimators take."""
