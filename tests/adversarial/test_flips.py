"""Every single-bit flip of a quote and of each signed document is refused.

Where the verdict may stay as it was, the flipped bit is provably outside what is signed; those places are listed here: the
letter case of hexadecimal digits, which spell the same bytes (a CRL handed over as text, the signature of a document).
There are no others.
"""

import dataclasses
import random

import pytest

HEX_LETTERS = set(b"abcdef")
CASE_BIT = 5
CRLS = ("root_ca_crl", "pck_crl")
CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
DOCUMENTS = ("tcb_info", "qe_identity")


def flipped(data, position, bit):
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def outside_what_is_signed(name, data, position, bit):
    """Return whether a flip changes only the case of a hexadecimal letter that is no part of the signed object."""
    if bit != CASE_BIT or data[position] not in HEX_LETTERS:
        return False
    return name in CRLS or (name in DOCUMENTS and position >= len(data) - len('0"}') - 127)


def quotes(kit, places):
    honest = kit.exhibit()
    for position, bit in places:
        yield (position, bit), dataclasses.replace(honest, quote=flipped(honest.quote, position, bit))


def documents(kit, name, places):
    """Give exhibits with one bit of one object of the collateral changed; texts that are no UTF-8 stay bytes."""
    honest = kit.exhibit()
    data = honest.collateral[name].encode("ascii")
    for position, bit in places:
        if not outside_what_is_signed(name, data, position, bit):
            collateral = {**honest.collateral, name: flipped(data, position, bit)}
            yield (position, bit), dataclasses.replace(honest, collateral=collateral)


def accepted(core, exhibits):
    return [place for place, exhibit in exhibits if core(exhibit).genuine]


def every_bit(size, share=1, *, seed=0):
    """Return every place, or a seeded choice of one in `share` that still touches every byte region."""
    places = [(position, bit) for position in range(size) for bit in range(8)]
    return places if share == 1 else random.Random(seed).sample(places, len(places) // share)


def test_some_bits_of_a_quote(core, kit):
    """A seeded choice of bits of the quote, and every bit of its lengths, ids and last bytes: none is accepted."""
    size = len(kit.exhibit().quote)
    fixed = [*range(0, 48, 2), *range(432, 436), *range(1012, 1060, 3), size - 2, size - 1]
    places = [(position, bit) for position in fixed for bit in range(8)]

    assert [] == accepted(core, quotes(kit, places + every_bit(size, 100)))


@pytest.mark.parametrize("name", [*CRLS, *CHAINS, *DOCUMENTS])
def test_some_bits_of_each_document(core, kit, name):
    """A seeded choice of bits of each object of the collateral: none is accepted."""
    size = len(kit.exhibit().collateral[name])

    assert [] == accepted(core, documents(kit, name, every_bit(size, 160)))


@pytest.mark.parametrize("name", CRLS)
def test_every_bit_of_a_crl_in_der(core, kit, name):
    """Handed over as DER there is no bit of a CRL that may change."""
    honest = kit.exhibit()
    data = bytes.fromhex(honest.collateral[name])
    flips = (
        (place, dataclasses.replace(honest, collateral={**honest.collateral, name: flipped(data, *place)}))
        for place in every_bit(len(data), 12)
    )

    assert [] == accepted(core, flips)


@pytest.mark.parametrize("name", [*CRLS, *DOCUMENTS])
def test_listed_exceptions_are_true(core, kit, name):
    """The listed bits spell the same bytes: the verdict is the same in every check."""
    honest = kit.exhibit()
    expected = core(honest)
    data = honest.collateral[name].encode("ascii")
    places = [(p, CASE_BIT) for p in range(len(data)) if outside_what_is_signed(name, data, p, CASE_BIT)]
    assert places
    for position, bit in places[:: max(1, len(places) // 20)]:
        verdict = core(
            dataclasses.replace(honest, collateral={**honest.collateral, name: flipped(data, position, bit)})
        )

        assert expected.outcomes == verdict.outcomes
        assert expected.tcb_status == verdict.tcb_status


@pytest.mark.long
@pytest.mark.parametrize("part", range(8))
def test_every_bit_of_a_quote(core, kit, part):
    """All bits of the quote, one bit of each byte in each part."""
    size = len(kit.exhibit().quote)

    assert [] == accepted(core, quotes(kit, [(position, part) for position in range(size)]))


@pytest.mark.long
@pytest.mark.parametrize("name", [*CRLS, *CHAINS, *DOCUMENTS])
def test_every_bit_of_each_document(core, kit, name):
    """All bits of each object of the collateral but the listed ones."""
    size = len(kit.exhibit().collateral[name])

    assert [] == accepted(core, documents(kit, name, every_bit(size)))
