"""Reads numbers of a few bits, as the headers of compressed pictures store them."""


class BitReader:
    """Reads from the most significant bit of the first byte on. After the last bit, everything reads as zero.

    Args:
        data: Bytes to read. They are untrusted, so no method raises an exception or takes long, whatever they are.
    """

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def bits(self, count: int) -> int:
        """Returns the next `count` bits as an unsigned number."""
        self._left -= count
        if self._left < 0:
            return self._value << -self._left & (1 << count) - 1
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        """Returns the next bit."""
        return self.bits(1) == 1

    def exp_golomb(self) -> int:
        """Returns an unsigned number in the Exp-Golomb code: as many zeros as bits follow the first one.

        Reference: ITU-T H.264, 9.1.
        """
        zeros = 0
        while zeros < 32 and self._left > 0 and not self.flag():  # 32 is the largest number of zeros in any header
            zeros += 1
        return (1 << zeros) - 1 + self.bits(zeros)

    def signed_exp_golomb(self) -> int:
        """Returns a signed number in the Exp-Golomb code, whose unsigned values stand for 0, 1, -1, 2, -2, ..."""
        code = self.exp_golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)
