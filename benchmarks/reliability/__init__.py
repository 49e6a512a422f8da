"""Does it hold? Damaged files, kills, interrupts and threads, counted."""
