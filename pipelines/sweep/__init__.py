"""Hyperparameter sweeps on Ray Tune: the space, the trials, what is shown while they run, and what comes of them."""
