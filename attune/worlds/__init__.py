"""Small worlds whose right answer is known exactly: in closed form, or by a gold reward that a program computes."""
