"""The job that tells whether photos are still like the training data, and takes labelled samples over."""
