"""Pre-trained encoders: where they come from, and their vocabulary cut to what a corpus uses."""
