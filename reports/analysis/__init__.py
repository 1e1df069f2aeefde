"""Read runs and compute: collection, grouping, Pearson by subset, intervals and verdicts."""
