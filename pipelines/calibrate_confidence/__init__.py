"""The job that fits how the confidence follows from the network's score."""
