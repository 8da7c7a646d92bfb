"""What a run writes down about itself: a line for each step, and a line for each session."""
