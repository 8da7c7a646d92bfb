"""The records of a run: a line for each step, and a line for each session."""
