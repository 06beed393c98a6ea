"""Algorithms: pure functions of arrays, each with a thin Block below it. Import them by full path."""
