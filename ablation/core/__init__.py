"""Errors, locks, the state folder and a run's identity: what every other room may use."""
