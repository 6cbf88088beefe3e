"""Whatever answers prompts: a local model, a server, a script. A sampler says whether it draws exactly from the policy."""
