"""Turn tables, figures and text into pages; nothing here knows a section or reads a run."""
