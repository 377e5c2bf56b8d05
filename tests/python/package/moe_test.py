"""ktjit.moe_matvec and ktjit.gated_matvec on numpy arrays, on the CPU, against plain numpy."""

import unittest

import numpy as np

import ktjit
import reference
from gguf_test import q8_0


def silu(g):
    return g / (1 + np.exp(-g))


def gelu_tanh(g):
    return g / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3)))


def stack_of(experts, rows, cols, seed):
    data, values = q8_0(experts * rows, cols, seed)
    return data, values.reshape(experts, rows, cols).astype(np.float64)


class MoeMatvec(unittest.TestCase):
    experts, rows, cols = 5, 7, 64
    function = staticmethod(ktjit.moe_matvec)

    def setUp(self):
        self.w, self.values = stack_of(self.experts, self.rows, self.cols, 1)
        self.ids = np.array([[4, 0], [1, 1], [3, -1]], np.int32)
        self.x = np.random.default_rng(2).normal(0, 1, (3, self.cols)).astype(np.float32)

    def call(self, **changes):
        given = {"w": self.w, "format": "q8_0", "experts": self.experts, "rows": self.rows,
                 "cols": self.cols, "ids": self.ids, "x": self.x, **changes}  # fmt: skip
        return self.function(**given)

    def expected(self, values, x):
        """Of the slots whose id is an expert's: all but the last."""
        per_slot = x if x.ndim == 3 else np.repeat(x[:, None], 2, axis=1)
        flat_x, flat_ids = per_slot.reshape(6, -1)[:5], self.ids.reshape(6)[:5]
        return np.stack([values[i] @ row for i, row in zip(flat_ids, flat_x.astype(np.float64))])

    def assert_near(self, y, want, tolerance=1e-5):
        self.assertEqual(y.shape, (3, 2, self.rows))
        flat = y.reshape(6, -1)
        self.assertTrue(np.isnan(flat[5]).all())
        self.assertLess(np.max(np.abs(flat[:5] - want)), tolerance * np.max(np.abs(want)))

    def test_takes_the_experts_that_the_ids_name(self):
        self.assert_near(self.call(), self.expected(self.values, self.x))
        own_x = np.random.default_rng(3).normal(0, 1, (3, 2, self.cols)).astype(np.float32)
        self.assert_near(self.call(x=own_x), self.expected(self.values, own_x))
        half = self.call(dtype=np.float16)
        self.assertEqual(half.dtype, np.float16)
        self.assert_near(half.astype(np.float32), self.expected(self.values, self.x), 1e-3)

    def test_gates(self):
        # Small sums, so that the gates are neither 0 nor 1.
        x = self.x / 400
        up, up_values = stack_of(self.experts, self.rows, self.cols, 4)
        gates = self.expected(self.values, x)
        for name, act in (("silu", silu), ("gelu_tanh", gelu_tanh)):
            with self.subTest(gate=name):
                want = act(gates) * self.expected(up_values, x)
                self.assert_near(self.call(x=x, w_up=up, gate=name), want)

    def test_applies_scales_of_each_expert(self):
        random = np.random.default_rng(5)
        codes = random.integers(0, 0x70, (self.experts, 6, self.cols)).astype(np.uint8)
        scales = random.uniform(0.5, 2, (self.experts, 3, 4)).astype(np.float32)
        wide = np.repeat(np.repeat(scales, 2, axis=1), 16, axis=2)
        values = reference.E4M3[codes].astype(np.float64) * wide
        self.rows = 6
        y = self.call(w=codes.reshape(-1), format="fp8_e4m3", rows=6, scale=scales, scale_block=(2, 16))
        self.assert_near(y, self.expected(values, self.x))

    def test_no_slots_give_an_empty_result(self):
        y = self.call(ids=np.empty((3, 0), np.int32))
        self.assertEqual(y.shape, (3, 0, self.rows))

    def test_refuses_what_does_not_fit(self):
        for changes, error, message in [
            ({"w": self.w[:-1]}, AssertionError, "w has .* bytes"),
            ({"ids": self.ids.astype(np.int64)}, AssertionError, "int64, not int32"),
            ({"ids": self.ids.reshape(-1)}, AssertionError, "ids has shape"),
            ({"x": self.x[:2]}, AssertionError, "x has shape"),
            ({"x": self.x.astype(np.float64)}, AssertionError, "float64"),
            ({"scale": self.x}, AssertionError, "scale needs scale_block"),
            ({"w_up": self.w[:-34]}, AssertionError, "w_up has .* bytes"),
            ({"w_up": self.w, "gate": "relu"}, ktjit.SpecError, "silu"),
            ({"format": "q9"}, ktjit.SpecError, "q9"),
            ({"experts": 0}, ktjit.SpecError, "experts is 0"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(error, message):
                self.call(**changes)


class MoeMatmul(MoeMatvec):
    function = staticmethod(ktjit.moe_matmul)


class GatedMatvec(unittest.TestCase):
    def test_equals_both_products(self):
        rows, cols = 40, 256
        w, gate_values = q8_0(rows, cols, 6)
        w_up, up_values = q8_0(rows, cols, 7)
        for n in (None, 1, 3, 11):
            shape = (cols,) if n is None else (n, cols)
            x = (np.random.default_rng(8).normal(0, 1, shape) / 500).astype(np.float32)
            wide = x.astype(np.float64)
            want = silu(wide @ gate_values.T.astype(np.float64)) * (wide @ up_values.T.astype(np.float64))
            y = ktjit.gated_matvec(w, w_up, "q8_0", rows, cols, x)
            with self.subTest(n=n):
                self.assertEqual((y.shape, y.dtype), (shape[:-1] + (rows,), np.float32))
                self.assertLess(np.max(np.abs(y - want)), 1e-5 * np.max(np.abs(want)))

    def test_refuses_what_does_not_fit(self):
        w, _ = q8_0(4, 64, 9)
        x = np.zeros(64, np.float32)
        with self.assertRaisesRegex(AssertionError, "w_up is missing"):
            ktjit.gated_matvec(w, None, "q8_0", 4, 64, x)
        with self.assertRaisesRegex(AssertionError, "x has shape"):
            ktjit.gated_matvec(w, w, "q8_0", 4, 64, x[:32])


if __name__ == "__main__":
    unittest.main()
