"""How sound becomes a model's input, as a store records it and as the user is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cnatool.data.audio.transform import describe_resampler
from cnatool.records.sound import SoundTransform

if TYPE_CHECKING:
    from cnatool.records.run import Preprocessing
    from cnatool.records.sound import SoundRecord


def record_sound(
    step: Preprocessing, sound: SoundRecord, transform: SoundTransform
) -> tuple[Preprocessing, str]:
    """Record how sound is transformed before all else; describe it to the user."""
    mixed = "channels replaced by their mean; " if sound.mixed else ""
    if transform.sample_rate is not None:
        transform = msgspec.structs.replace(transform, resampled_by=describe_resampler())
        text = str(transform)
    else:
        at_rate = msgspec.structs.replace(transform, sample_rate=sound.sample_rate)
        text = (
            f"{at_rate} (the rate of its files; `sample_rate=HZ` resamples it to the one that the "
            "model was trained with)"
        )
    if transform != SoundTransform():
        step = msgspec.structs.replace(step, sound=transform)
    return step, f"{mixed}{text}"
