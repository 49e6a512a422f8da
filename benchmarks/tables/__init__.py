"""Tables larger than memory: what they cost."""
