"""What compression costs and brings, on real files; whole-file sizes."""
