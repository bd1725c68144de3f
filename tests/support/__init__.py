"""What tests share: worlds, servers, readers and commands, one subject a module."""
