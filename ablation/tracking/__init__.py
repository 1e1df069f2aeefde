"""Write runs to MLflow and read them back; no other room writes to it.

There are two levels: a suite run (one command), and below it one run for each variant, split and
seed. `ablation.tracking.names` lists all tags, metrics and artifacts.
"""

import os

# These must be set before mlflow is imported. It reports usage to its makers unless told not to,
# and its log lines and progress bars would tear the table of runs.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# Its lines "View run ... at" would show the password of the server's address.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# MLflow's client would retry for minutes, and pause for as long as a server's Retry-After says.
# `delivery` and `retry_until_available` retry themselves: three attempts of 20 s make a minute.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
