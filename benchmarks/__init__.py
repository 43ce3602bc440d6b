"""What counting and capturing cost, each module a table: ``python -m benchmarks.counting``."""
