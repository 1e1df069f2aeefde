"""Reading and checking corpora: MINT's format, its languages, and the demo corpus."""
