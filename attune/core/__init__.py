"""Nouns only: the record, the batch, the spec, the protocols and the errors that everything else speaks."""
