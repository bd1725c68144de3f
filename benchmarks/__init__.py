"""Time and memory of this package against other ways to do the same work, on a corpus made for it.

    python -m benchmarks --scale 0.1

Nothing here is part of the published package.
"""
