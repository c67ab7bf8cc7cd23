"""The one error of the lab: what went wrong, and what the reader can do about it."""


class LabError(Exception):
    """Something the lab cannot get past by itself.

    `message` says what happened; `remedy` says what to do; `details` is the evidence (the last
    lines of a log or of a console), kept apart so that the sentence stays readable.
    """

    def __init__(self, message: str, *, remedy: str = "", details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    def reported(self) -> str:
        """All of it, as lines for the user to read: evidence, what happened, remedy."""
        lines = [f"    {line}" for line in self.details.splitlines()]
        lines.append(f"lab: error: {self.message}")
        if self.remedy:
            lines.append(f"lab: remedy: {self.remedy}")
        return "\n".join(lines)
