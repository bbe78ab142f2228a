"""What every kind of workload shares: phases, events, seeing and stopping."""
