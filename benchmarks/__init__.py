"""How fast medsql is beside the obvious alternatives: `python -m benchmarks`."""
