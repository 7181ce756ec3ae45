"""Delivers words to GitHub: the sticky comment, the review threads, and what a step says to its own job."""
