"""Signals that pick responses to imitate."""
