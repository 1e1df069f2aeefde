"""Write numbers of things as English does: "1 run", "2 runs", "1,000 runs"."""


def counted(count: int, noun: str) -> str:
    """Return the number with its noun, which is given in the singular and takes an "s"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
