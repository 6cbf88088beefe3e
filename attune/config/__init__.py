"""What a user writes: recipes, typed, strict and frozen. Imports no torch, and of attune only the errors."""
