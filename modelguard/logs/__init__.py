"""What training logs say: one small reader a format, and the geometry of their steps."""
