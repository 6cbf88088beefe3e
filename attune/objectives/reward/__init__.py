"""Objectives that fit a reward model."""
