"""Logs: one line a request, never a secret, never a prompt."""
