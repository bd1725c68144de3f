"""Compare time and memory of this package with other ways to do the same work, on a generated corpus.

    python -m benchmarks --scale 0.1

Nothing here is part of the published package.
"""
