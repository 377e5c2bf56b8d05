#!/usr/bin/env python3
"""Prints the tables of core/codebooks.cpp and the sums of tests/core/codebooks_test.cpp from ggml-common.h.

usage: make_codebooks.py GGML_COMMON_H
"""
import re
import sys

# name, ggml's table, elements of an entry, levels by code
CODEBOOKS = [
    ("Iq1S", "iq1s_grid", 8, (-1, 0, 1)),
    ("Iq2Xxs", "iq2xxs_grid", 8, (8, 25, 43)),
    ("Iq2Xs", "iq2xs_grid", 8, (8, 25, 43)),
    ("Iq2S", "iq2s_grid", 8, (8, 25, 43)),
    ("Iq3Xxs", "iq3xxs_grid", 4, (4, 12, 20, 28, 36, 44, 52, 62)),
    ("Iq3S", "iq3s_grid", 4, (1, 3, 5, 7, 9, 11, 13, 15)),
]


def read_table(header, name, elems):
    """Entries of a table of little-endian words, as lists of signed bytes."""
    begin = re.search(r"GGML_TABLE_BEGIN\(uint\d+_t, %s, \w+\)" % name, header).end()
    body = header[begin:header.index("GGML_TABLE_END", begin)]
    words = [int(word, 16) for word in re.findall(r"0x[0-9a-fA-F]+", body)]
    return [[b - 256 if b > 127 else b for b in word.to_bytes(elems, "little")] for word in words]


def pack(entry, levels):
    """Element i in bits 4 (i % 4) + 2 (i / 4) and up."""
    return sum(levels.index(value) << 4 * (i % 4) + 2 * (i // 4) for i, value in enumerate(entry))


def fnv1a(entries):
    """64-bit FNV-1a of all bytes in ggml's order."""
    digest = 0xCBF29CE484222325
    for value in (value for entry in entries for value in entry):
        digest = (digest ^ (value & 255)) * 0x100000001B3 & (1 << 64) - 1
    return digest


def main():
    header = open(sys.argv[1], encoding="utf-8").read()
    for name, table, elems, levels in CODEBOOKS:
        entries = read_table(header, table, elems)
        packed = [f"0x{pack(entry, levels):04x}" for entry in entries]
        print(f"// sum 0x{fnv1a(entries):016x}")
        print(f"constexpr std::array<std::uint16_t, {len(entries)}> k{name} = {{")
        for at in range(0, len(packed), 12):
            print("    " + ", ".join(packed[at:at + 12]) + ",")
        print("};\n")


if __name__ == "__main__":
    main()
