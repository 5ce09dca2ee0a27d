"""Export targets: one object per format, each in a file of its own."""
