"""Benchmarks and ablation studies, each run as `python -m benchmarks.NAME`."""
