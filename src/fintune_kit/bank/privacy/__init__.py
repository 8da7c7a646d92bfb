"""Replaces names and identifiers in bank lines by placeholders, keeps merchants, and searches the result once more."""
