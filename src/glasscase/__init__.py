"""Reproducible, verifiable Intel SGX enclaves for Python web applications.

Only the version is here: every module, also inside the enclave, imports this one.
"""

__version__ = "0.1.0"
