"""Training on cached features: data, optimiser groups, loop, metrics."""
