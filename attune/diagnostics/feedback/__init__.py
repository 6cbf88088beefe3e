"""Probes that need nothing but the groups. A file holds one function of its own name: `probe(groups) -> findings`, none where there is nothing to see."""
