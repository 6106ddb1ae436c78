"""Front ends: waveform to embedding, one kind per file."""
