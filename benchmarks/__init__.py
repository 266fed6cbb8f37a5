"""How fast gliogate is, as ratios within one run: whatever else the machine does then, it does to every row."""
