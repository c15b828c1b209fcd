"""Who does what, when."""
