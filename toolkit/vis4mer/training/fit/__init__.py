"""From windows of tokens to a trained head: the run, its loop, its optimiser and its folder."""
