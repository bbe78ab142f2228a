"""Notebooks: admitted for the hub's spawner, observed through their shims."""
