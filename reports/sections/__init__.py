"""Hold the report's sections, one file each, found by `registry`; `cells` is what they share."""
