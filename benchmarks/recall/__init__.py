"""The long-range benchmark's parts: movies as tokens, the models compared, their training, and the table."""
