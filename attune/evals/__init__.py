"""Protocols that say how good a policy, a reward model or a judge is, each with its interval."""
