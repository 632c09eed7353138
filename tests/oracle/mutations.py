"""Random changes of an honest scene, signed again where the changed part is signed: bytes, DER trees and JSON values."""

import json

DER_STAGES = ("tbs.ca", "tbs.pck", "tbs.tcb_signer", "tbs.root", "tbs.root_crl", "tbs.pck_crl")
JSON_STAGES = ("json.tcb_info", "json.qe_identity")
BYTE_STAGES = (
    *DER_STAGES, *JSON_STAGES, "der.ca", "der.pck", "der.tcb_signer", "der.root", "der.root_crl", "der.pck_crl", "pem.quote",
    "pem.pck_crl", "pem.tcb_info", "pem.qe_identity", "text.tcb_info", "text.qe_identity", "hex.root_crl", "hex.pck_crl",
    "quote.signed", "quote.qe_report", "quote.auth", "quote.bytes",
)  # fmt: skip
TOKENS = (
    b"\0", b"\n", b"\r\n", b" ", b"\xff", b"0", b"1", b"-", b"Z", b"=", b'"', b",", b"{}", b"[]", b"null", b"true", b"\\u0000", b"\\/",
    b"\x05\x00", b"\x30\x00", b"\x01\x01\xff", b"\x01\x01\x00", b"\x02\x01\x00", b"1e2", b"0.0", b"\xc2\xa0", b"\xef\xbb\xbf",
)  # fmt: skip
VALUES = (
    0, 1, -1, 2, 3, 18, 19, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53, 2**63, 2**64, True, False, None, "", "0", "SGX", "TDX",
    "QE", "UpToDate", "Revoked", "OutOfDate", "SWHardeningNeeded", "2025-01-01T00:00:00Z", "2025-01-01T00:00:00z",
    "2099-12-31T23:59:59Z", "00", "FFFFFFFF", "ffffffff", [], {}, [0], ["INTEL-SA-00001"], [""], {"svn": 1}, "\u0130", "a\u0000",
    "a\"b", "\\", "\U0001f600",
)  # fmt: skip


def mutate(scene, random):
    """Change one random part of the scene; returns what was done, for the message."""
    kind = random.choice(("bytes", "der", "der", "json", "json", "time", "field"))
    if kind == "bytes":
        stage, change = random.choice(BYTE_STAGES), _bytes(random)
    elif kind == "der":
        stage, change = random.choice(DER_STAGES), _der(random)
    elif kind == "json":
        stage, change = random.choice(JSON_STAGES), _json(random)
    elif kind == "field":
        return _field(scene, random)
    else:
        scene.at += random.choice((-1, 0, 1, 86400, 30 * 86400 - 1, 30 * 86400, -86400 * 365 * 9, 86400 * 365 * 74))
        return "time", scene.at
    scene.edit(stage, change)
    if stage.endswith(".root") and random.random() < 0.7:
        scene.trust_changed_root()
    return kind, stage


def _bytes(random):
    seed = random.getrandbits(64)

    def change(data):
        r = type(random)(seed)
        if not data:
            return r.choice(TOKENS)
        at, other = r.randrange(len(data)), r.randrange(len(data))
        size = r.choice((1, 1, 1, 2, 4, 16, 64))
        choice = r.randrange(7)
        if choice == 0:
            return data[:at] + bytes([data[at] ^ 1 << r.randrange(8)]) + data[at + 1 :]
        if choice == 1:
            return data[:at] + bytes([r.randrange(256)]) + data[at + 1 :]
        if choice == 2:
            return data[:at] + data[at + size :]
        if choice == 3:
            return data[:at] + data[other : other + size] + data[at:]
        if choice == 4:
            return data[:at] + r.choice(TOKENS) + data[at:]
        if choice == 5:
            return data[: r.choice((at, len(data) - 1))]
        return data + r.choice(TOKENS)

    return change


def _tree(data):
    """Return [tag, content or children] of one element and what follows it; content stays whole where it does not parse."""
    tag, size, start = data[0], data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    content, rest = data[start : start + size], data[start + size :]
    if tag & 0x20 or (tag == 4 and content[:1] in (b"\x30", b"\x04", b"\x03")):
        children = []
        try:
            while content:
                child, content = _tree(content)
                children.append(child)
            return [tag, children], rest
        except (IndexError, ValueError):
            pass
    return [tag, data[start : start + size]], rest


def _join(node):
    content = node[1] if isinstance(node[1], bytes) else b"".join(map(_join, node[1]))
    size = len(content)
    if size < 128:
        return bytes([node[0], size]) + content
    width = (size.bit_length() + 7) // 8
    return bytes([node[0], 0x80 | width]) + size.to_bytes(width, "big") + content


def _nodes(node):
    yield node
    if not isinstance(node[1], bytes):
        for child in node[1]:
            yield from _nodes(child)


def _der(random):
    seed = random.getrandbits(64)

    def change(data):
        r = type(random)(seed)
        root, _ = _tree(data)
        node = r.choice(list(_nodes(root)))
        if isinstance(node[1], bytes):
            choice = r.randrange(5)
            if choice == 0:
                node[0] = r.choice((1, 2, 3, 4, 5, 6, 10, 12, 19, 22, 23, 24, 48, 49, 0x80, 0x86, 0xA0, 0xA1, 0xA3))
            elif choice == 1 and node[1]:
                at = r.randrange(len(node[1]))
                node[1] = node[1][:at] + bytes([node[1][at] ^ 1 << r.randrange(8)]) + node[1][at + 1 :]
            elif choice == 2:
                node[1] += bytes([r.randrange(256)])
            elif choice == 3:
                node[1] = node[1][:-1]
            else:
                node[1] = r.choice((b"", b"\0", b"\xff", b"\0" + node[1], b"\x7f" * 21))
        elif node[1]:
            choice = r.randrange(5)
            at = r.randrange(len(node[1]))
            if choice == 0:
                del node[1][at]
            elif choice == 1:
                node[1].insert(at, node[1][r.randrange(len(node[1]))])
            elif choice == 2:
                other = r.randrange(len(node[1]))
                node[1][at], node[1][other] = node[1][other], node[1][at]
            elif choice == 3:
                node[1].append([5, b""])
            else:
                node[0] ^= r.choice((1, 0x20, 0x80))
        return _join(root)

    return change


def _json(random):
    seed = random.getrandbits(64)

    def change(data):
        r = type(random)(seed)
        value = json.loads(data)
        places = list(_places(value))
        holder, key = r.choice(places)
        choice = r.randrange(6)
        if choice == 0:
            del holder[key]
        elif choice == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif choice == 2:
            _, source = r.choice(places), r.choice(places)
            holder[key] = source[0][source[1]]
        elif choice == 3 and isinstance(holder, dict):
            items = list(holder.items())
            r.shuffle(items)
            holder.clear()
            holder.update(items)
        elif choice == 4 and isinstance(holder, dict):
            holder[r.choice(("x", "tdxModule", "tdxtcbcomponents", "advisoryIDs", "id", "Version"))] = r.choice(VALUES)
        else:
            holder[key] = r.choice(VALUES)
        separators = r.choice(((",", ":"), (", ", ": "), (" ,\n", "\t:"))) if r.random() < 0.2 else (",", ":")
        return json.dumps(value, separators=separators, ensure_ascii=r.random() < 0.5).encode("utf-8", "surrogatepass")

    return change


def _places(value):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


def _field(scene, random):
    """Change numbers that decide the status: SVNs of platform and quoting enclave, statuses of levels."""
    choice = random.randrange(4)
    if choice == 0:
        level = random.choice(scene.tcb_info["tcbLevels"])
        level["tcbStatus"] = random.choice((
            "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
            "OutOfDateConfigurationNeeded", "Revoked"))  # fmt: skip
        return "level", level["tcbStatus"]
    if choice == 1:
        level = random.choice(scene.qe_identity["tcbLevels"])
        level["tcbStatus"] = random.choice(
            ("UpToDate", "ConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked")
        )
        return "QE level", level["tcbStatus"]
    if choice == 2:
        random.shuffle(scene.tcb_info["tcbLevels"])
        components = random.choice(scene.tcb_info["tcbLevels"])["tcb"]["sgxtcbcomponents"]
        components[random.randrange(16)]["svn"] = random.choice((0, 1, 14, 15, 16, 17, 254, 255))
        return "levels", "shuffled"
    svn = random.randrange(10)
    scene.set_quote(qe_fields=(*scene.quote.qe_fields, ("isv_svn", svn)))
    return "QE SVN", svn
