"""The error of input that cannot be used."""


class DataError(ValueError):
    """Input that cannot be scored. The message is one line: what is wrong, where, what to do."""
