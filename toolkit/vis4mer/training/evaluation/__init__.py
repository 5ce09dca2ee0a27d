"""From windows of tokens to a head's predictions, their metrics, and a report over checkpoints."""
