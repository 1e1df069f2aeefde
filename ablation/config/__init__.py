"""Settings of a run: the typed schema, profiles, and the rows of the comparison table."""
