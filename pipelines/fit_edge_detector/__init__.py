"""The job that fits the edge-case detector: its command, examples and solver."""
