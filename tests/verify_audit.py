#!/usr/bin/env python3
"""Checks that an entry is in a log, with nothing but the Python standard library.

    verify_audit.py PROOF.json

PROOF.json holds "leaf" (base64), "index", "path" (list of base64), "head" (signed note) and "key"
(NAME+ID+KEY), and optionally "older" (an earlier signed note) with "consistency" (list of base64).
Compare the key with one you were given in another way, and "older" with a head you kept yourself.
Tree: RFC 6962, 2.1; proofs: RFC 9162, 2.1.3.2 and 2.1.4.2; head: C2SP tlog-checkpoint, signed-note.
"""

import base64
import hashlib
import json
import pathlib
import sys

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def need(holds, what):
    if not holds:
        raise ValueError(what)


def unbase64(text, length=None):
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, "base64 that is not written the one way there is")
    need(length in (None, len(data)), f"a value that is not {length} bytes")
    return data


def point(data):
    """A point of the curve (RFC 8032, 5.1.3) as X, Y, Z, T: x = X/Z, y = Y/Z, xy = T/Z."""
    sign, y = divmod(int.from_bytes(data, "little"), 2**255)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * pow(2, (P - 1) // 4, P) % P
    need(y < P and (x * x - square) % P == 0 and (x or not sign), "a point that is not on the curve")
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n, p):
    rest = times(n >> 1, add(p, p)) if n else (0, 1, 1, 0)
    return add(rest, p) if n & 1 else rest


def is_signature(key, message, signature):
    """Is [s]B - [k]A the R that the signature begins with?"""
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % ORDER
    base = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    x, y, z, t = point(key)
    x, y, z, _ = add(times(s, base), times(k, (-x, y, z, -t)))
    x, y = x * pow(z, -1, P) % P, y * pow(z, -1, P) % P
    return len(signature) == 64 and s < ORDER and r == (x % 2 << 255 | y).to_bytes(32, "little")


def open_head(note, vkey):
    """Size, root and time of a head that the key signed."""
    name, hex_id, key = vkey.split("+", 2)
    key = unbase64(key, 33)
    key_id = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    need(key[0] == 1 and key_id.hex() == hex_id, "a text that is not a verifier key")
    text, _, lines = note.rpartition("\n\n")
    need(lines.endswith("\n"), "a text that is not a signed note")
    ours = []
    for line in lines[:-1].split("\n"):
        dash, signer, signature = line.split(" ")
        signature = unbase64(signature)
        need(dash == "\u2014" and signer and len(signature) > 4, "a line that is not a signature")
        ours += [signature[4:]] if signer == name and signature[:4] == key_id else []
    need(ours, "a note that the key did not sign")
    need(all(is_signature(key[1:], f"{text}\n".encode(), one) for one in ours), "a wrong signature")
    origin, size, root, recorded, last = text.split("\n")
    size, root, recorded = int(size), unbase64(root, 32), int(recorded.removeprefix("recorded "))
    epoch, key = map(int, last.removeprefix("last ").split(" "))
    same = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\nrecorded {recorded}\nlast {epoch} {key}" == text
    need(same and size >= 0 and origin == name, "a note that is not a head of this log")
    return size, root, recorded


def parent(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def climb(at, last, path):
    """Each hash of a proof, and whether it is on the left."""
    for sibling in path:
        need(last > 0, "a proof that is too long")
        left = at & 1 == 1 or at == last
        while left and at & 1 == 0:
            at, last = at >> 1, last >> 1
        yield left, sibling
        at, last = at >> 1, last >> 1
    need(last == 0, "a proof that is too short")


def is_included(leaf, index, size, path, root):
    need(type(index) is int and 0 <= index < size, "an index beyond the log")
    for left, sibling in climb(index, size - 1, path):
        leaf = parent(sibling, leaf) if left else parent(leaf, sibling)
    return leaf == root


def is_consistent(old, old_root, new, new_root, path):
    need(old <= new, "heads that are not in order")
    if old == 0 or old == new:
        begins = old > 0 or old_root == hashlib.sha256().digest()
        return path == [] and begins and (old < new or old_root == new_root)
    low = old & -old
    before, after, path = (old_root, old_root, path) if old == low else (path[0], path[0], path[1:])
    for left, sibling in climb((old - 1) // low, (new - 1) // low, path):
        before = parent(sibling, before) if left else before
        after = parent(sibling, after) if left else parent(after, sibling)
    return before == old_root and after == new_root


def main(file):
    proof = json.loads(pathlib.Path(file).read_text("utf-8"))
    size, root, recorded = open_head(proof["head"], proof["key"])
    print(f"The head of {size} entries is signed by {proof['key']}, recorded {recorded}.")
    leaf = hashlib.sha256(b"\x00" + unbase64(proof["leaf"])).digest()
    path = [unbase64(one, 32) for one in proof["path"]]
    need(is_included(leaf, proof["index"], size, path, root), "an entry that is not in the log")
    print(f"Entry {proof['index']} is in it, its leaf hash is {leaf.hex()}.")
    if "older" in proof or "consistency" in proof:
        old, old_root, _ = open_head(proof["older"], proof["key"])
        path = [unbase64(one, 32) for one in proof["consistency"]]
        need(is_consistent(old, old_root, size, root, path), "a log that was changed")
        print(f"It begins with the {old} entries of the older head, which the same key signed.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        sys.exit(f"NOT VERIFIED: {error or type(error).__name__}")
