"""Training: one worker's loop, its loss, its checkpoints and what is written down about it."""
