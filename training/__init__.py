"""Trains the detector and the segmenter, and writes what is served. Run from a checkout: `python -m training -h`."""
