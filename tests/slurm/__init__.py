"""A real SLURM on this machine, for the tests and to try sweeps on."""
