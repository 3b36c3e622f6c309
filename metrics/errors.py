"""The error of input that cannot be used."""


class DataError(ValueError):
    """Input that cannot be scored. The message is one line: what is wrong, where, what to do."""


class LimitError(DataError):
    """More of something than is read of any file, so that another form of the same file would not help."""
