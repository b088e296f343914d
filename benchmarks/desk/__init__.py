"""The models that the benchmarks lock and write."""
