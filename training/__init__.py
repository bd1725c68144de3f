"""The paper's benchmark: is this the caption's own picture? `python -m training --help`."""
