"""Read runs and compute: nothing here draws, writes or formats a page.

`collect` and `groups` read; `measures` and `inference` compute; `verdicts`, `claims` and
`claim_verdicts` compare with the paper; `steps`, `effects`, `curves`, `curve_study`, `residuals`,
`costs`, `distances` and `budgets` are what the report's sections show; `inputs` holds all of it.
"""
