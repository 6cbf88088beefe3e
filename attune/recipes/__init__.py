"""Runs assembled from recipes: the only place that knows every layer."""
