"""Encoders by name, and their exact speed-ups: packing, attention, dropout, trimming."""
