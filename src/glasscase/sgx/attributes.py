"""Bits of SGX ATTRIBUTES.FLAGS and the sizes of report structures.

Source: Intel SDM vol. 3D, "Layout of ATTRIBUTES Structure" and "Layout of REPORT".
"""

FLAG_INIT = 0x1
FLAG_DEBUG = 0x2
FLAG_MODE64 = 0x4
FLAG_PROVISION_KEY = 0x10
FLAG_EINITTOKEN_KEY = 0x20
FLAG_KSS = 0x80
FLAG_AEX_NOTIFY = 0x400

REPORT_BODY_SIZE = 384  # bytes, what a quote carries and signs
REPORT_SIZE = 432  # bytes, what EREPORT writes: body, key id, MAC
