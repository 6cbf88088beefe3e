"""One file a method; the folder says what it eats, the file's name is the method's name."""
