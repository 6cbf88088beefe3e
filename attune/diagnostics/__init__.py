"""What is wrong with feedback, and how much: one file a probe, each a pure function from groups to findings."""
