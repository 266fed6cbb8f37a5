"""`make gpu-check`: what only a GPU can show of the models of this checkout."""
