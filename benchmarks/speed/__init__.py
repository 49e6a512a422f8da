"""Training speed compared with other libraries and with the matrix products alone, in one run on one machine."""
