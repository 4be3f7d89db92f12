"""QUIC handshakes that are begun and never go on: version 1 Initials (RFC 9000, 9001) by hand, with the first part of a ClientHello."""

from __future__ import annotations

import hashlib
import hmac
import os
import select
import socket

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# RFC 9001 §5.2
_SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
_DATAGRAM_BYTES = 1200
_RETRY = 0xF0


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1) of at most one block."""
    full = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(full)]) + full + b"\x00"
    return hmac.new(secret, info + b"\x01", hashlib.sha256).digest()[:length]


def _varint(value: int) -> bytes:
    return (0x4000 | value).to_bytes(2, "big")


def initial(destination: bytes, source: bytes, number: int, token: bytes = b"") -> bytes:
    """One datagram: an Initial with 400 bytes of a ClientHello of 1400."""
    client = _expand(hmac.new(_SALT, destination, hashlib.sha256).digest(), b"client in", 32)
    key, iv, protection = _expand(client, b"quic key", 16), _expand(client, b"quic iv", 12), _expand(client, b"quic hp", 16)
    hello = b"\x01" + (1400).to_bytes(3, "big") + b"\x03\x03" + os.urandom(394)
    frames = b"\x06" + _varint(0) + _varint(len(hello)) + hello
    packet_number = number.to_bytes(4, "big")
    head = b"\xc3" + (1).to_bytes(4, "big") + bytes([len(destination)]) + destination + bytes([len(source)]) + source
    head += _varint(len(token)) + token
    payload_bytes = max(_DATAGRAM_BYTES - len(head) - 2 - 4 - 16, len(frames))
    frames += b"\x00" * (payload_bytes - len(frames))
    header = head + _varint(4 + len(frames) + 16) + packet_number
    nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
    packet = bytearray(header + AESGCM(key).encrypt(nonce, frames, header))
    at = len(header) - 4
    # ECB of one block is what header protection is (RFC 9001 §5.4.3).
    encryptor = Cipher(algorithms.AES(protection), modes.ECB()).encryptor()
    mask = encryptor.update(bytes(packet[at + 4 : at + 20]))
    packet[0] ^= mask[0] & 0x0F
    for i in range(4):
        packet[at + i] ^= mask[1 + i]
    return bytes(packet)


class HalfOpen:
    """So many handshakes that stand still. They follow a Retry, as an attacker with a real address can."""

    def __init__(self, port: int, count: int = 200) -> None:
        self.count, self.retried, self.answered = count, 0, 0
        self._sockets: dict[socket.socket, tuple[bytes, bytes]] = {}
        for _ in range(count):
            link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            link.connect(("127.0.0.1", port))
            destination = os.urandom(8)
            self._sockets[link] = (destination, os.urandom(8))
        for link, (destination, source) in self._sockets.items():
            link.send(initial(destination, source, 0))
        self.follow()

    def follow(self, seconds: float = 0.5) -> None:
        """Reads what came, and answers each Retry with its token."""
        while ready := select.select(list(self._sockets), [], [], seconds)[0]:
            for link in ready:
                try:
                    datagram = link.recv(2048)
                except ConnectionError:
                    continue
                if datagram and datagram[0] & 0xF0 == _RETRY:
                    self.retried += 1
                    at = 5
                    at += 1 + datagram[at]
                    server = datagram[at + 1 : at + 1 + datagram[at]]
                    token = datagram[at + 1 + len(server) : -16]
                    source = self._sockets[link][1]
                    link.send(initial(server, source, 1, token))
                else:
                    self.answered += 1

    def again(self) -> None:
        """The relay gives up handshakes that stand still; these begin anew."""
        for link, (_, source) in list(self._sockets.items()):
            destination = os.urandom(8)
            self._sockets[link] = (destination, source)
            try:
                link.send(initial(destination, source, 0))
            except ConnectionError:
                continue
        self.follow()

    def close(self) -> None:
        for link in self._sockets:
            link.close()

    def __enter__(self) -> "HalfOpen":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
