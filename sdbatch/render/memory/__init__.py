"""Which weights lie on the device, and when: all, one room at a time, or layer by layer."""
