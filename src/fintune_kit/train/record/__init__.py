"""What a run writes down about itself: a line for each step."""
