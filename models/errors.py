"""Errors that adapters raise."""


class TransientError(Exception):
    """Something outside failed that may work later; worth another try."""


class EndpointError(Exception):
    """An endpoint refuses requests as it is configured; it will refuse those of every video."""


class BudgetError(Exception):
    """The budget of the run does not allow another request; no video can go on."""


class MissingWeightsError(RuntimeError):
    """A package that carries model weights is not installed, or its file is not the pinned one."""


class MediaError(Exception):
    """A file that cannot be used as video.

    Attributes:
        detail: what the demuxer or decoder said.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
