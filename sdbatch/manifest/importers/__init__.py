"""What other programs write, read as rows of a manifest: one module for each form."""
