"""Systems of common course texts, as published and with defaults, with their figures and targets."""
