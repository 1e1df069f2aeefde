"""Speed and memory, measured against what a researcher would use instead."""
