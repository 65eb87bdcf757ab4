"""Sweeps: cells of a grid or of a search, that are submitted once, go on after anything, and say where they stand."""
