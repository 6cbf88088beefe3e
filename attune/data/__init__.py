"""Feedback in files, read into Groups and written back; every record is accounted for."""
