"""The one error that audiotk raises for what a user can put right."""


class AudiotkError(ValueError):
    """Bad input, a missing file, a wrong option: the text says what was expected, what came and what to do."""


class NotForThisData(AudiotkError):
    """An experiment cannot be done with the chosen data set: nothing is broken, and a run of many notebooks goes on."""
