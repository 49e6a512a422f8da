"""One script a peer, run by the Python of the peer's own environment; they know nothing of isthmus or of each other."""
