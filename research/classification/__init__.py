"""Supervised tasks on a frozen or tuned encoder."""
