"""Front ends: waveform, or features, to embedding; one kind per file."""
