"""CPU time and quality of the tasks' fits, compared with another version of the library."""
