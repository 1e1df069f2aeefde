"""Typed tables and blocks, figures, and their rendering as PDF and HTML."""
