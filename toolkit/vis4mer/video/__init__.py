"""Videos in: which frames to take, how to decode only those, and two readers that agree."""
