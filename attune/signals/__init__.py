"""What feedback says to an objective: one file a signal, found by its name; each sees one whole group and counts what it leaves out."""
