"""Benchmarks: reproducible scripts for all figures in the docs."""
