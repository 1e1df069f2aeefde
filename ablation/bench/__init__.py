"""Speed, memory and growth: this suite measured against what a researcher would use instead, and against its own size."""
