"""Signals that make pairs."""
