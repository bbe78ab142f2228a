"""Use over time: what was held of each resource, by user, project or kind, computed from the ledger's reservations."""
