"""The one kind of failure that a user is meant to read."""


class UserError(Exception):
    """One sentence that says what is wrong and what to do about it; commands print it and exit non-zero."""
