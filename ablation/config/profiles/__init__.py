"""Profiles: TOML files with what they change against the paper's Table 4."""
