"""Measures of generated stories, pictures and films."""
