"""Text that every store takes."""

LONGEST = 2000  # of a sentence in a history


def storable(text: str) -> str:
    """Without NUL characters and halves of pairs, which no store takes: a reason may quote what a user's program wrote."""
    return text.replace("\0", "").encode(errors="replace").decode()


def sentence(text: str) -> str:
    """Storable, and of bounded length: whose words it quotes may be anybody's."""
    kept = storable(text[: LONGEST + 1])
    return kept if len(kept) <= LONGEST else f"{kept[:LONGEST]}\N{HORIZONTAL ELLIPSIS}"
