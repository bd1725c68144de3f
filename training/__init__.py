"""The former name of `newsclippings train`, in a checkout: `python -m training`."""
