"""Export targets: one module per format."""
