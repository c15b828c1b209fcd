"""Reads a dataset and says what is true."""
