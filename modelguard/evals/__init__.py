"""Evaluation logs: what a harness wrote about each question, and whether its headline numbers follow."""
