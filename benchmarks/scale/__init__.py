"""Beyond one process: what the work costs there, and that nothing is lost."""
