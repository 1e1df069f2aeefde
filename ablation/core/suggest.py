"""Suggest the name that the user probably meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], *, others: str = "") -> str:
    """Return a hint for an unknown `name`: the nearest known name, or the list of them.

    Args:
        name: The name that is not known.
        known: The known names.
        others: Further accepted input, such as "a TOML file".

    Returns:
        For example "did you mean 'dev1'?" or "known are dev1, dev2, or a TOML file".
    """
    names = list(known)
    by_letters = {known_name.casefold(): known_name for known_name in names}
    near = difflib.get_close_matches(name.casefold(), by_letters, n=1, cutoff=0.5)
    if near:
        return f"did you mean {by_letters[near[0]]!r}?"
    return f"known are {', '.join(names)}" + (f", or {others}" if others else "")
