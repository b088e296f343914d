"""Is an update ever lost? ``python -m benchmarks.safety --help``

Worker processes take locks, think and write, while they are killed, stopped and cut off; their
journals and the rows say afterwards whether a write that was acknowledged is missing.
"""
