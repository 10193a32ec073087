"""Numbers of things, as they stand in a sentence."""


def counted(count: int, what: str, plural: str = "") -> str:
    """`1 run`, `2 runs`, `1,000 runs`; `plural` where that is more than an s."""
    return f"{count:,} {what if count == 1 else plural or what + 's'}"
