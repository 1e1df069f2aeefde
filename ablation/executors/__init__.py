"""Carry pieces of work to processes, here or on other machines, and hear of them."""
