"""Reliability tests: damaged files, kills, interrupts and threads."""
