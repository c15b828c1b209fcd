"""Where weights come from: folders, single files, the Hub and other stores; no torch."""
