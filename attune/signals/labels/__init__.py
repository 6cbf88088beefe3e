"""Signals that make binary labels."""
