"""The engine: groups in, updates out. The loop is engine.py; the arithmetic of one update is update.py."""
