"""A dataset in another form: export, push, scores."""
