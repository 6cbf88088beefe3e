"""Probes of the exact tokens that would be trained. A file holds one function of its own name: `probe(encoding) -> findings`, maybe none."""
