"""One ledger for everything that holds resources."""
