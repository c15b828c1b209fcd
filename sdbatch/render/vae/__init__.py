"""Another autoencoder for room 3, and the range of numbers it needs."""
