"""The contenders: for each way to do a work, what somebody who knows the tool would write."""
