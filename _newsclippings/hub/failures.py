"""What an error of the Hub's client means."""

import re

MAY_PASS = (408, 409, 412, 429, 500, 502, 503, 504)  # another commit came first, or the server is busy
XET_STATUS = re.compile(r"HTTP status client error \((\d{3})")  # hf_xet reports the status in its text only
# Libraries whose errors are errors of the network
CLIENTS = ("hf_xet", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an error, if it has one."""
    in_text = XET_STATUS.search(str(error))
    status: int | None = getattr(getattr(error, "response", None), "status_code", int(in_text[1]) if in_text else None)
    return status


def find_hub_error(error: BaseException | None) -> BaseException | None:
    """Return the error of the Hub or the network in a chain of causes, whatever library the client uses; or None."""
    while error is not None:
        library = type(error).__module__.partition(".")[0]
        answered = getattr(error, "response", None) is not None
        if answered or isinstance(error, ConnectionError | TimeoutError) or library in CLIENTS:
            return error
        error = error.__cause__
    return None


def may_pass(cause: BaseException) -> bool:
    """Check whether another try may succeed."""
    status = status_of(cause)
    return status in MAY_PASS if status is not None else not isinstance(cause, TimeoutError)
