"""Reports on tracked runs: tables, figures and statistics, read from the tracking store alone.

This package may import the record's schema from `ablation`, never the reverse. It holds no report yet.
"""
