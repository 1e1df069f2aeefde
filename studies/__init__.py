"""Studies: sweeps of settings with Optuna, every trial tracked in MLflow, on development rows only."""
