"""Do the intervals hold what they promise: a simulation in which the truth is known."""
