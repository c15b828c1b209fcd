"""How one model family fills the three rooms."""
