"""How `newsclippings` is done. Not an interface: import `newsclippings` instead."""
