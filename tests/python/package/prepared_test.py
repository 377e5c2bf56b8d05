"""ktjit.gguf.PreparedWeights in the simulator, numpy arrays around it, against plain numpy."""

import unittest

import numpy as np

import ktjit
import reference
from gguf_test import q8_0

ROWS, COLS = 37, 320  # neither a multiple of the layout's tile


def prepared(seed, device="sim"):
    data, values = q8_0(ROWS, COLS, seed)
    return data, values, ktjit.gguf.PreparedWeights(data, "q8_0", ROWS, COLS, device=device)


class PreparedWeights(unittest.TestCase):
    def test_products_stay_within_the_bound_of_float32_sums(self):
        for device in ("sim", "cpu"):
            data, values, weights = prepared(1, device)
            self.assertEqual((weights.device, weights.format), (device, "q8_0"))
            for n, dtype in [(None, np.float32), (3, np.float16), (9, np.float32), (0, np.float32)]:
                shape = (COLS,) if n is None else (n, COLS)
                x = np.random.default_rng(2).normal(0, 1, shape).astype(dtype)
                y = weights.matvec(x)
                exact = x.astype(np.float64) @ values.astype(np.float64).T
                sums = np.abs(x).astype(np.float64) @ np.abs(values).T
                with self.subTest(n=n, device=device):
                    self.assertEqual((y.shape, y.dtype), (shape[:-1] + (ROWS,), np.float32))
                    bound = (COLS / 16 + 16) * 2.0**-24 * sums
                    self.assertTrue(np.all(np.abs(y - exact) <= bound))

    def test_native_bytes_and_values_come_back(self):
        for device in ("sim", "cpu"):
            data, values, weights = prepared(3, device)
            self.assertEqual(weights.nbytes, 3 * 2 * 16 * 272)  # 16 rows, 256 columns a unit
            nbytes = ktjit.gguf.prepared_bytes("Q8_0", ROWS, COLS, device=device)
            self.assertEqual(nbytes, weights.nbytes)
            self.assertTrue(np.array_equal(weights.restore(), data))
            self.assertTrue(reference.same_bits(weights.dequant(), values))
            half = weights.dequant(dtype=np.float16)
            self.assertTrue(reference.same_bits(half, values.astype(np.float16)))
        self.assertGreater(
            ktjit.gguf.prepared_bytes("iq2_xxs", 16, 256, device="cpu"), 16 * 66
        )

    def test_takes_buffers(self):
        data, _ = q8_0(4, 64, 4)
        weights = ktjit.gguf.PreparedWeights(data.tobytes(), "Q8_0", 4, 64, device="sim")
        self.assertTrue(np.array_equal(weights.restore(), data))

    def test_refuses_what_has_no_such_layout(self):
        data, _ = q8_0(4, 64, 5)
        for arguments, options, error, message in [
            ((data[:-1], "q8_0", 4, 64), {}, AssertionError, "271 bytes, a q8_0 tensor"),
            ((data, "fp8_e4m3", 4, 68), {}, ktjit.SpecError, "fp8_e4m3"),
            ((data, "fp8_e4m3", 4, 68), {"device": "cpu"}, ktjit.SpecError, "fp8_e4m3"),
            ((17, "q8_0", 4, 64), {}, AssertionError, "no array and no buffer"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(error, message):
                ktjit.gguf.PreparedWeights(*arguments, **({"device": "sim"} | options))
        weights = ktjit.gguf.PreparedWeights(data, "q8_0", 4, 64, device="sim")
        for x, message in [
            (np.zeros(63, np.float32), r"shape \(63,\)"),
            (np.zeros(64, np.int32), "int32"),
            (np.zeros((2, 128), np.float32)[:, ::2], "contiguous"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(AssertionError, message):
                weights.matvec(x)
        with self.assertRaisesRegex(AssertionError, "copied"):
            ktjit.prepare(weights.matvec, np.zeros(64, np.float32))


if __name__ == "__main__":
    unittest.main()
