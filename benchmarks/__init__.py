"""What docs/performance.rst shows, measured anew: see ``python -m benchmarks --help``."""
