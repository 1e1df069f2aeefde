"""Report on tracked runs: tables, figures and statistics, read from the tracking store alone.

`analysis` reads and computes, `rendering` draws and sets pages, `sections` say what stands in them;
`contents` composes a report, `build` writes it, `verify` recomputes it.
"""
