"""xxh3_64 of many short strings at a time.

xxhash takes one string a call, and a call takes five times as long as hashing a word: of words, hashing was
most of what filters did. The formulas are those of XXH3_64bits with seed 0 for up to 16 bytes
(xxhash.h 0.8: XXH3_len_1to3_64b, XXH3_len_4to8_64b, XXH3_len_9to16_64b); longer strings go to xxhash.
"""

import numpy as np
import xxhash

# So many bytes have to follow the last string.
PADDING = 24
_U = np.uint64
_LOW = _U(0xFFFFFFFF)
_PRIME_2, _PRIME_3 = _U(0xC2B2AE3D27D4EB4F), _U(0x165667B19E3779F9)
_MIX_8, _MIX_16 = _U(0x9FB21C651E98DF25), _U(0x165667919E3779F9)
# Words of the default secret, joined by xor as the formulas take them.
_FLIP_3 = _U(0x87275A9B)
_FLIP_8 = _U(0xC73AB174C5ECD5A2)
_FLIP_LOW, _FLIP_HIGH = _U(0x6782737BEA4239B9), _U(0xAF56BC3B0996523A)


def xxh3_64(data: np.ndarray, start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Hash the strings of `size` bytes from `start` on in `data` (uint8), each of one byte at least.

    `data` has PADDING bytes of anything behind the last string.
    """
    aligned = data[: len(data) // 8 * 8].view(_U)
    first = _load(aligned, start)
    hashes = np.empty(len(start), _U)
    length = size.astype(_U)
    for least, most, formula in ((1, 3, _to_3), (4, 8, _to_8)):
        at = np.flatnonzero((size >= least) & (size <= most))
        hashes[at] = formula(first.take(at), length.take(at))
    at = np.flatnonzero((size > 8) & (size <= 16))
    hashes[at] = _to_16(first.take(at), _load(aligned, (start + size - 8).take(at)), length.take(at))
    _hash_long(hashes, data, start, size)
    return hashes


def quick_hashes(data: np.ndarray, start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Hash strings as `xxh3_64` takes them, in half its time: for what is compared and not kept.

    Different strings of up to eight bytes, none of which is 0, have different hashes: each step can be undone
    (multiplying by an odd number, xor with the upper half). The bits of longer ones come from the first and
    the last eight bytes.
    """
    aligned = data[: len(data) // 8 * 8].view(_U)
    first = _load(aligned, start)
    first &= ~_U(0) >> ((_U(8) - np.minimum(size, 8).astype(_U)) << _U(3))
    hashes = _spread(first)
    at = np.flatnonzero(size > 8)
    length = size.take(at)
    hashes[at] += _spread(_load(aligned, start.take(at) + length - 8) ^ (length.astype(_U) * _PRIME_3))
    _hash_long(hashes, data, start, size)
    return hashes


def _spread(values: np.ndarray) -> np.ndarray:
    values *= _PRIME_2
    values ^= values >> _U(32)
    values *= _PRIME_3
    return values


def _hash_long(hashes: np.ndarray, data: np.ndarray, start: np.ndarray, size: np.ndarray) -> None:
    """Put in the hashes of strings of more than 16 bytes, by xxhash."""
    text = data.tobytes() if size.max(initial=0) > 16 else b""
    for n in np.flatnonzero(size > 16).tolist():
        hashes[n] = xxhash.xxh3_64_intdigest(text[start[n] : start[n] + size[n]])


def _load(aligned: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the eight bytes from each start on, as a little-endian number."""
    word, bits = start >> 3, (start.astype(_U) & _U(7)) << _U(3)
    # A shift by 64 bits gives 0 in numpy.
    return (aligned.take(word) >> bits) | (aligned.take(word + 1) << (_U(64) - bits))


def _to_3(text: np.ndarray, length: np.ndarray) -> np.ndarray:
    eight = _U(3)
    first = text & _U(255)
    middle = (text >> ((length >> _U(1)) << eight)) & _U(255)
    last = (text >> ((length - _U(1)) << eight)) & _U(255)
    mixed = (first << _U(16)) | (middle << _U(24)) | last | (length << _U(8))
    mixed ^= _FLIP_3
    mixed ^= mixed >> _U(33)
    mixed *= _PRIME_2
    mixed ^= mixed >> _U(29)
    mixed *= _PRIME_3
    return mixed ^ (mixed >> _U(32))


def _to_8(text: np.ndarray, length: np.ndarray) -> np.ndarray:
    last = (text >> ((length - _U(4)) << _U(3))) & _LOW
    mixed = (last + (text << _U(32))) ^ _FLIP_8
    mixed ^= _rotated(mixed, 49) ^ _rotated(mixed, 24)
    mixed *= _MIX_8
    mixed ^= (mixed >> _U(35)) + length
    mixed *= _MIX_8
    return mixed ^ (mixed >> _U(28))


def _to_16(first: np.ndarray, last: np.ndarray, length: np.ndarray) -> np.ndarray:
    low, high = first ^ _FLIP_LOW, last ^ _FLIP_HIGH
    mixed = length + low.byteswap() + high + _folded_product(low, high)
    mixed ^= mixed >> _U(37)
    mixed *= _MIX_16
    return mixed ^ (mixed >> _U(32))


def _rotated(values: np.ndarray, bits: int) -> np.ndarray:
    return (values << _U(bits)) | (values >> _U(64 - bits))


def _folded_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the low half of the product's 128 bits, xor the high one."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _U(32), b & _LOW, b >> _U(32)
    crossed = a_high * b_low + ((a_low * b_low) >> _U(32))
    other = a_low * b_high + (crossed & _LOW)
    return (a * b) ^ (a_high * b_high + (crossed >> _U(32)) + (other >> _U(32)))
