"""The time that a first use takes."""
