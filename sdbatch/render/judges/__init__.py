"""Models that say something of finished pictures."""
