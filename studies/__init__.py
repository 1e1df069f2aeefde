"""Studies on development rows: sweeps of settings with Optuna, and studies of training curves.

`spaces/` holds search spaces as data, read by `space`; `study` opens a study by name in a
`storage`; `sweep` runs its trials (`trial`) and survives kills; `outcome` writes the best settings
(`profile`) and plots; `equal_budget` tunes several variants with the same number of trials each.
`curves` trains Figures 4 and 5 with the `gradients` of their loss terms. MLflow tracks every run.
"""
