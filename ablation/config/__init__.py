"""Settings of a run, profiles, and the rows of the comparison."""
