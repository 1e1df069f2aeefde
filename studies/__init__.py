"""Studies on top of the ablation: Optuna sweeps and training-curve studies.

This package may import `ablation`, never the reverse. It holds no study yet.
"""
