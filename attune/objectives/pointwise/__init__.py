"""Objectives over single responses with a label or a score."""
