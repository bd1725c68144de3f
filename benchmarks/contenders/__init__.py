"""The contenders: each does a work as an experienced user of its tool would write it."""
