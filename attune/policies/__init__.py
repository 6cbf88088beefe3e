"""Models behind one protocol: how they read a prompt, how rows are laid out, which heads and adapters they carry, what they are compared with."""
