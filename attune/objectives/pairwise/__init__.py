"""Objectives over pairs of responses."""
