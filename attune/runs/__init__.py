"""A run's directory: what was asked for, what happened, and what came out."""
