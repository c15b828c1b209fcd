"""Files out: what a finished picture looks like on disk."""
