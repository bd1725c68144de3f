"""Programs that try thousands of attacks, of which the tests take a sample: `python -m tests.sweeps.NAME`."""
