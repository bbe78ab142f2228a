"""One module per area of the hub's configuration; each has a function that fills in its part of `c`."""
