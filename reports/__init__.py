"""Reports on tracked runs: tables, figures and statistics, read from the tracking store alone.

`collect` reads the store; `groups`, `measures` and `statistics` compute; `scores`, `comparisons`,
`curves`, `errors`, `setting` and `origin` make tables of it; `contents` is the order of the pages;
`figures`, `pdf` and `html` render, `build` writes, `verify` computes everything again.
"""
