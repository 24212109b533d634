"""The one exception that is written for a person."""


class UserError(ValueError):
    """Something that the user can mend: the message says what was got, what was expected, and how.

    The commands print it without a traceback and end with exit code 1. Every other exception is a
    defect of srcolor and keeps its traceback.
    """
