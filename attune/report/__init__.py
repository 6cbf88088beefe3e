"""One self-contained HTML file a run: what was wanted, whether it worked, how sure, and the evidence for it."""
