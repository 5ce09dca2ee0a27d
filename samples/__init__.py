"""The sample movie and model, the generator that made them, and usage examples."""
