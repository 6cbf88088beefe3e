"""Whatever says how good a response is: a model with a head, a program, a world's gold reward."""
