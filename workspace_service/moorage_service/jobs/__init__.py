"""Jobs: promotion, versions, schedules and the clock that fires them, runs and their outputs."""
