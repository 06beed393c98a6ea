"""One question a module: run it, check the result, print one JSON row. Run: python -m benchmarks.NAME"""
