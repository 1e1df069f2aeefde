"""Run `python -m ablation` as the console script does."""

import os
import sys
from pathlib import Path

# `python -m` looks for modules in the working folder first: a user's own reports.py or studies.py
# there would be imported instead of this project's package.
if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from ablation.cli.main import main

if __name__ == "__main__":
    main()
