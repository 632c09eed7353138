"""Reproducible, verifiable Intel SGX enclaves for Python web applications.

    from glasscase import auditor    # judge evidence and quotes: load_*, verify_*, Verifier, TrustAnchor
    from glasscase import provider   # encrypt, measure, check a bundle, seal secrets to a verified enclave
    from glasscase import client     # an ssl.SSLContext that reaches only a verified enclave
    from glasscase import runtime    # what an application may use inside its enclave
    from glasscase import errors     # every exception is a subclass of errors.Error

Other modules are internal. Only the version is here: every module, also inside the enclave, imports this one.
"""

__version__ = "0.1.0"
