"""How fast models train, beside other libraries and beside the matrix products alone, in one run on one machine."""
