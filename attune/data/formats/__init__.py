"""One file a source format; the file's name is the format's name."""
