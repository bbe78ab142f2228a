"""Text that every store takes."""


def storable(text: str) -> str:
    """Without NUL characters and halves of pairs, which no store takes: a reason may quote what a user's program wrote."""
    return text.replace("\0", "").encode(errors="replace").decode()
