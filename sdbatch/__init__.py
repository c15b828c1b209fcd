"""sdbatch turns manifests of prompts into datasets of pictures."""
