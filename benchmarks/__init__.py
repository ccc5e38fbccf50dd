"""One script for each claim; python -m benchmarks runs them all and writes RESULTS.md."""
