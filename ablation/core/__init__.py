"""Errors, locks, the state folder, a run's identity: used by every other room."""
