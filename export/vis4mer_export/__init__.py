"""From a checkpoint to a bundle that a serving machine runs."""
