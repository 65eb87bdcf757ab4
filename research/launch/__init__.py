"""What happens before a job: bins, memory, and the check on the login node."""
