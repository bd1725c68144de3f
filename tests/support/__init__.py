"""Helpers that several test modules use: worlds, servers, readers and commands, one subject per module."""
