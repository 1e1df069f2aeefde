"""Measure speed, memory and growth: against Hugging Face's tools, and against the own size."""
