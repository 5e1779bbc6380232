"""Errors of other libraries, shown in one line."""


def last_line(error: BaseException) -> str:
    """The last line of an error's text, where Ray puts the cause; its type if it has no text."""
    lines = str(error).strip().splitlines()
    return lines[-1].rstrip(".") if lines else type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for people to read; its type if it has no text."""
    if isinstance(error, KeyError):
        return f"no {error}"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
