"""Whole pipelines of diffusers, for models that fill no three rooms."""
