"""Encoders: embedding to embedding of the same length, one kind per file."""
