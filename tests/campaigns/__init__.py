"""Fault campaigns: thousands of damaged inputs, each tried in a process of its own.

``python -m tests.campaigns.videos`` runs one from the repository's root; the test suite runs a short form of each.
"""
