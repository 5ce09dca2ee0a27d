"""Runners: one module per backend, each executes one exported graph."""
