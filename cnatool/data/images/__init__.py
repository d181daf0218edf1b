"""Encoded images: decoding, transforms, contact sheets."""
