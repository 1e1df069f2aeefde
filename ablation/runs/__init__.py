"""Plans of runs and their execution: planned, trained or reused, and reported while they go on."""
