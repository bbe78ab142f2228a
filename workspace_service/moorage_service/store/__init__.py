"""The store: what should be, and what was last seen."""
