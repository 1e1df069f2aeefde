"""What is written to MLflow, and read back of it. Nothing else in the suite imports mlflow to write.

Two levels: a suite run (one command) and one run below it for each variant, split and seed. The
names of all tags and artifacts stand in `ablation.tracking.names`.
"""
