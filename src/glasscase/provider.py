"""What a code provider calls: encryption, measurement, sealing. Keys are 32 raw bytes. Source: README.md, "Python API"."""

from glasscase.core.stream import decrypt_file, encrypt_file, open_encrypted

__all__ = ["decrypt_file", "encrypt_file", "open_encrypted"]
