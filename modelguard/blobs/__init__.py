"""Where bytes come from. A transport knows `read(start, length)` and nothing of what the bytes mean."""
