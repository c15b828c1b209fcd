"""A dataset to look at: a page, grids and sheets, from what was committed and nothing else."""
