"""The errors that Winnow raises with a message for the user, on one line."""


class WinnowError(Exception):
    """An error for the user: what was found, what was expected and what to do.

    The command line prints only the message and exits with status 1. `--debug` adds the traceback.
    """


class SettingsError(WinnowError):
    """One or more wrong settings. The message lists all of them."""


class ModelError(WinnowError):
    """An ONNX model that does not fit its description."""


class OtherEncoderError(ModelError):
    """A head that was trained on the embeddings of another encoder."""


class LostRowsError(WinnowError):
    """A job whose counts do not add up, so that rows were lost or duplicated."""


class LakeInUseError(WinnowError):
    """A lake to which another command writes. The message names the command and who runs it."""
