"""Runnable examples, and the makers of their material."""
