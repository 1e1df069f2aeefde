"""The ablation of team Zhegu's system for multilingual tweet intimacy, run, tracked and compared.

The folders are the pipeline: `data` and `splits` feed `training` with the `model` and the
`losses`; `runner` executes a `plan` of runs and hands what they measure to `tracking`.
"""

import os

__version__ = "0.1.0"

# Set before torch is imported. Its threads spin while they wait for each other, and where any other process wants one
# of the cores, a spinning thread keeps the one it waits for from running: a training step then takes up to ten times
# as long (`docs/benchmarks/notes.md`). Where waking sleeping ones is dear, `ablation.training.parallel` lets them wait twice a step.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
