"""Pure decisions: no torch, no ray, no I/O."""
