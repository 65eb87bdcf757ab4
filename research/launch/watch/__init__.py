"""Probes on the way of a run: in the loop, or as jobs beside it."""
