"""The job that trains the edge refiner: its command, examples and crops."""
