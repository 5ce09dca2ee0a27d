"""Serving: bundles, runners, windows, the classifier and its timeline."""
