"""What a run does now, read from its folder, and how a terminal shows it."""
