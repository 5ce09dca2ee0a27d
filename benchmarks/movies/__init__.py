"""Movies made for measuring."""
