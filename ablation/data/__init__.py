"""Corpora: reading and checking MINT's format, languages, splits, and the demo corpus."""
