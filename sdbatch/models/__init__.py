"""The embedded model: its weights, its card, and the code that made them. Imported by nobody."""
