"""What is written to MLflow, and read back of it. Nothing else in the suite imports mlflow to write.

Two levels: a suite run (one command) and one run below it for each variant, split and seed. The
names of all tags and artifacts stand in `ablation.tracking.names`.
"""

import os

# Set before mlflow is imported: it reports usage to its makers unless told not to, and its notes
# and bars would tear the run table.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# A server that is away: MLflow's client would try for minutes at a time, and as long as a server's Retry-After
# says. `ablation.tracking.delivery` and `retry_until_available` try again by themselves; three times 20 s make their minute.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
