"""The arithmetic of Ed25519's curve (RFC 8032, 5.1), done again in plain numbers: what a key is, by somebody who is not libsodium."""

from __future__ import annotations

from functools import lru_cache

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]
ZERO: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def times(n: int, point: Point) -> Point:
    total = ZERO
    while n:
        if n & 1:
            total = add(total, point)
        point, n = add(point, point), n >> 1
    return total


def decoded(key: bytes, strict: bool = True) -> Point | None:
    """RFC 8032, 5.1.3. strict: only the one encoding of each point."""
    number = int.from_bytes(key, "little")
    y, odd = number & (1 << 255) - 1, number >> 255
    if strict and y >= P:
        return None
    y %= P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square or (strict and x == 0 and odd):
        return None
    return (P - x if x & 1 != odd else x), y


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def of_small_order() -> list[bytes]:
    """Every 32 bytes that a lax decoder takes for a point of order 1, 2, 4 or 8."""
    eighth = next(
        point for y in range(2, 99) if (p := decoded(y.to_bytes(32, "little"))) and times(4, point := times(L, p)) != ZERO
    )
    ys = {times(n, eighth)[1] for n in range(8)}
    ys |= {y + P for y in ys if y + P < 1 << 255}
    return [(y | odd << 255).to_bytes(32, "little") for y in sorted(ys) for odd in (0, 1)]


@lru_cache(maxsize=1024)
def is_of_prime_order(key: bytes) -> bool:
    """Whether 32 bytes are the one encoding of a point of the prime-order group, and not of its zero."""
    point = decoded(key)
    return point is not None and point != ZERO and times(L, point) == ZERO
