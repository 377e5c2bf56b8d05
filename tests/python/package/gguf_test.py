"""ktjit.gguf on bytes and numpy arrays, on the CPU, against plain numpy."""

import unittest

import numpy as np

import ktjit
import reference


def q8_0(rows, cols, seed):
    """Random blocks of a scale (f16) and 32 codes of 8 bits, and what they decode to."""
    random = np.random.default_rng(seed)
    scales = random.uniform(0.01, 1, (rows, cols // 32, 1)).astype(np.float16)
    codes = random.integers(-128, 128, (rows, cols // 32, 32)).astype(np.int8)
    data = np.concatenate([scales.view(np.uint8), codes.view(np.uint8)], axis=2)
    values = (scales.astype(np.float32) * codes.astype(np.float32)).reshape(rows, cols)
    return data.reshape(-1), values


class Dequant(unittest.TestCase):
    def test_equals_the_reference_to_the_bit(self):
        data, values = q8_0(33, 256, 1)
        self.assertTrue(reference.same_bits(ktjit.gguf.dequant(data, "q8_0", 33, 256), values))
        self.assertTrue(
            reference.same_bits(ktjit.gguf.dequant(data.tobytes(), "Q8_0", 33, 256), values)
        )
        half = ktjit.gguf.dequant(memoryview(data), "Q8_0", 33, 256, dtype=np.float16)
        self.assertTrue(reference.same_bits(half, values.astype(np.float16)))

    def test_refuses_wrong_sizes_and_formats(self):
        data, _ = q8_0(4, 64, 2)
        for arguments, error, message in [
            ((data[:-1], "q8_0", 4, 64), AssertionError, "271 bytes, a q8_0 tensor"),
            ((data, "q8_0", 4, 65), ktjit.SpecError, "multiples of the q8_0 block"),
            ((data, "q9", 4, 64), ktjit.SpecError, "q9"),
            ((data, "q8_1", 4, 64), ktjit.SpecError, "q8_1"),
            ((data.astype(np.int16), "q8_0", 4, 64), AssertionError, "int16, not uint8"),
            ((17, "q8_0", 4, 64), AssertionError, "no array and no buffer"),
            ((data, "q8_0", 0, 64), ktjit.SpecError, "rows"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(error, message):
                ktjit.gguf.dequant(*arguments)


class Matvec(unittest.TestCase):
    def test_stays_within_the_bound_of_float32_sums(self):
        rows, cols = 40, 512
        data, values = q8_0(rows, cols, 3)
        for n in (None, 1, 3, 8, 19):
            shape = (cols,) if n is None else (n, cols)
            x = np.random.default_rng(4).normal(0, 1, shape).astype(np.float32)
            y = ktjit.gguf.matvec(data, "q8_0", rows, cols, x)
            w = values.astype(np.float64)
            bound = (cols / 16 + 16) * 2.0**-24 * (np.abs(x).astype(np.float64) @ np.abs(w).T)
            with self.subTest(n=n):
                self.assertEqual((y.shape, y.dtype), (shape[:-1] + (rows,), np.float32))
                self.assertLessEqual(np.max(np.abs(y - x.astype(np.float64) @ w.T) - bound), 0)

    def test_refuses_other_shapes(self):
        data, _ = q8_0(4, 64, 5)
        for x, message in [
            (np.ones(63, np.float32), r"\(63,\)"),
            (np.ones((1, 1, 64), np.float32), r"\(1, 1, 64\)"),
            (np.ones(64, np.int32), "int32"),
            ([1.0] * 64, "list"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(AssertionError, message):
                ktjit.gguf.matvec(data, "q8_0", 4, 64, x)


if __name__ == "__main__":
    unittest.main()
