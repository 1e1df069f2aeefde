"""Studies: sweeps of settings with Optuna, every trial tracked in MLflow, on development rows only.

`spaces/` holds search spaces as data, read by `space`; `study` opens a study by name in a `storage`;
`sweep` runs its trials (`trial`) and survives kills; `outcome` writes the best settings and plots.
The studies of training curves (Figures 4 and 5 with their gradients) are not written yet.
"""
