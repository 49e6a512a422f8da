"""Time and memory of tables larger than memory."""
