"""Side by side with what a user would otherwise write. `python -m benchmarks --help`."""
