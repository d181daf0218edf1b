"""Record networks that run in Keras."""

from cnatool.recorders.keras.recorder import Recorder, record, store_callback

__all__ = ["Recorder", "record", "store_callback"]
