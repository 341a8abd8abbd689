"""The networks and their weights: what exists, where the files are, and U²-Net itself in PyTorch.

``weights`` finds, fetches and checks files and needs no deep-learning package; ``u2net`` needs torch and is
imported only by those who use it.
"""
