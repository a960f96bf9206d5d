"""The one exception that Winnow raises on purpose: a message for the user, on one line."""


class WinnowError(Exception):
    """What was found, what was expected and what to do, for the person who typed the command.

    The command line prints the message alone and exits with status 1; `--debug` adds the traceback.
    """


class SettingsError(WinnowError):
    """One or more settings that cannot be used; all faults are gathered before it is raised."""


class ModelError(WinnowError):
    """An ONNX model that cannot be used as it is described."""


class OtherEncoderError(ModelError):
    """A head that was trained on the embeddings of another encoder than the one in use."""


class LostRowsError(WinnowError):
    """A job whose counts do not add up: rows were lost or invented."""
