"""Reading somebody's Python without running it. Standard library only."""

import ast


def parsed(source: str) -> ast.Module:
    """As `ast.parse`, but whatever it can't read is a SyntaxError: half a surrogate pair, a NUL, brackets without end."""
    try:
        return ast.parse(source)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = "it holds a character that no code has" if isinstance(error, ValueError) else "it is nested too deeply"
        raise SyntaxError(reason) from error
