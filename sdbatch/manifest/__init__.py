"""Prompts in: what a manifest may hold, how it is read, frozen and checked."""
