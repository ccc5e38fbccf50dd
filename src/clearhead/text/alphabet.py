"""GPT-2's alphabet: one printable character for each of the 256 bytes (Radford et al., 2019)."""


def byte_alphabet() -> list[str]:
    """The character that stands for each byte value, 0 to 255, in `byte` and `byte_bpe` vocabularies.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for the characters from
    U+0100 on.
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    beyond = iter(range(256, 512))
    return [chr(byte if byte in printable else next(beyond)) for byte in range(256)]
