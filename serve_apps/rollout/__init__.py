"""Safe roll-outs: a new model is tried beside the present one before it takes over."""
