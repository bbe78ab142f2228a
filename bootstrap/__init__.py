"""Sets Moorage up from a checkout, with nothing but Python's standard library: `python3 -m bootstrap up`."""
