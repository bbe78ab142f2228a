"""Beside greet.ipynb: goes into its snapshot."""


def words(who: str) -> str:
    return f"hello {who}"
