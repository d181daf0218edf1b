"""The words that options take; a module that imports nothing, for the help of the command line."""

from typing import Literal

# What is stored of a tensor.
Kept = Literal["full", "statistics"]
Statistic = Literal["sum", "abs_sum", "square_sum", "positive_sum", "nonzero_count", "min", "max"]
# Types that floating activations can be narrowed to.
Narrowing = Literal["float32", "float16", "bfloat16"]
# What is stored of a picture as raw input.
KeptInputs = Literal["values", "levels"]
# What a raw input is, where α depends on it: bytes of UTF-8, token ids, amplitudes.
InputKind = Literal["text", "tokens", "sound"]
# Compression of arrays in a store.
Codec = Literal["lz4", "zstd", "gzip", "none"]
# What happens at a sample that cannot be read.
OnError = Literal["stop", "skip"]
# Filters of Pillow.
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
# What the channels of pictures are turned into.
Colour = Literal["as-is", "rgb", "bgr", "grey"]
