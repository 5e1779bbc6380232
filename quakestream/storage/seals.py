"""Seals: an object of our own says its name and the digest of its content.

Disks flip bits, uploads are cut, and people copy files under other names. What is read back is
believed only where its seal holds; otherwise it is made again. A seal protects from accidents,
not from somebody who wants to deceive.

The seal is 32 bytes: sha256 of the name and of all other bytes. In a Parquet file it stands before
the footer, where readers of Parquet do not look, elsewhere at the end.
"""

import hashlib

_PARQUET = b"PAR1"
_SIZE = 32
_FOOTER_TAIL = 8
"""Bytes after the footer of a Parquet file: its length and the magic word."""


def sealed(key: str, data: bytes) -> bytes:
    """The content of an object with its seal.

    Args:
        key: under which it is stored. The last part counts: a ledger may be moved as a whole.
    """
    at = len(data) - _footer_bytes(data)
    return data[:at] + _digest(key, data[:at], data[at:]) + data[at:]


def unsealed(key: str, data: bytes) -> bytes | None:
    """The content without its seal; None if the seal does not hold, or there is none."""
    at = len(data) - _footer_bytes(data) - _SIZE
    if at < 0:
        return None
    head, seal, tail = data[:at], data[at : at + _SIZE], data[at + _SIZE :]
    return head + tail if seal == _digest(key, head, tail) else None


def _footer_bytes(data: bytes) -> int:
    """Bytes from the footer of a Parquet file to its end; 0 for others."""
    if not (data.startswith(_PARQUET) and data.endswith(_PARQUET)):
        return 0
    length = int.from_bytes(data[-_FOOTER_TAIL:-4], "little") + _FOOTER_TAIL
    return length if length <= len(data) else 0


def _digest(key: str, head: bytes, tail: bytes) -> bytes:
    digest = hashlib.sha256(key.rpartition("/")[2].encode() + b"\0")
    digest.update(head)
    digest.update(tail)
    return digest.digest()
