"""What an operator sees: logs that name request, user and workload; heartbeats of the loops; health in words."""
