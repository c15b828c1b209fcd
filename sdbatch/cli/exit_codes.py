"""Exit codes as every help page prints them."""

EXIT_CODES = """\
\b
Exit codes:
  0 all rows done        2 input or configuration   4 rows failed or differ
  1 internal error       3 storage or damaged       5 engine, cluster or lease
  75 stopped early or unfinished: the same command resumes
  4 by --stop-after-failed is stopped as well: the same command resumes
"""

REWORK_EXIT_CODES = """\
\b
Exit codes, of the whole dataset as `render` gives them:
  0 all rows done        2 input or configuration   5 engine, cluster or lease
  1 internal error       3 storage or damaged
  4 pictures of the dataset failed (also when there was nothing to do)
  75 stopped early or unfinished: the same command resumes
"""
