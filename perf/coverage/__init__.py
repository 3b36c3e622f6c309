"""Coverage of the suite's intervals, measured in a simulation with known truth."""
