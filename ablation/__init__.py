"""The ablation of team Zhegu's system for multilingual tweet intimacy, run, tracked and compared.

The folders are the pipeline: `data` and `splits` feed `training` with the `model` and the
`losses`; `runner` executes a `plan` of runs and hands what they measure to `tracking`.
"""

__version__ = "0.1.0"
