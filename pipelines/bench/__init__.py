"""The benchmarks: one module each, and the parts that they share."""
