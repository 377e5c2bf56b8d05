"""ktjit.fp8 on numpy arrays, on the CPU, against plain numpy."""

import unittest

import numpy as np

import ktjit
import reference

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None


def all_codes(rows, cols):
    return (np.arange(rows * cols) * 37 % 251 + np.arange(rows * cols) // 256).astype(
        np.uint8
    ).reshape(rows, cols)


class WeightDequant(unittest.TestCase):
    def test_equals_the_reference_to_the_bit(self):
        random = np.random.default_rng(1)
        for rows, cols, block in [(128, 128, 128), (200, 300, 128), (1, 1, 128), (257, 77, 32),
                                  (64, 4096, 64), (130, 16, 7)]:
            with self.subTest(rows=rows, cols=cols, block=block):
                codes = all_codes(rows, cols)
                scales = random.uniform(
                    1e-4, 3, (-(-rows // block), -(-cols // block))
                ).astype(np.float32)
                wide = reference.spread(scales, block, block, rows, cols)
                expected = reference.E4M3[codes] * wide
                y = ktjit.fp8.weight_dequant(codes, scales, block)
                self.assertTrue(reference.same_bits(y, expected))
                half = ktjit.fp8.weight_dequant(codes, scales, block, dtype=np.float16)
                with np.errstate(over="ignore"):
                    self.assertTrue(reference.same_bits(half, expected.astype(np.float16)))
                double = ktjit.fp8.weight_dequant(codes, scales, block, dtype=np.float64)
                self.assertTrue(reference.same_bits(double, expected.astype(np.float64)))

    def test_default_block_is_128(self):
        codes = all_codes(129, 128)
        scales = np.array([[2.0], [0.5]], np.float32)
        y = ktjit.fp8.weight_dequant(codes, scales)
        self.assertTrue(reference.same_bits(y[:128], reference.E4M3[codes[:128]] * np.float32(2)))
        self.assertTrue(reference.same_bits(y[128:], reference.E4M3[codes[128:]] / np.float32(2)))

    def test_takes_arrays_at_any_address(self):
        flat = all_codes(1, 64 * 64 + 16).reshape(-1)
        scales = np.ones((1, 1), np.float32)
        for offset in (1, 2, 4, 8):
            codes = flat[offset : offset + 64 * 64].reshape(64, 64)
            y = ktjit.fp8.weight_dequant(codes, scales)
            self.assertTrue(reference.same_bits(y, reference.E4M3[codes]))

    def test_takes_no_rows(self):
        y = ktjit.fp8.weight_dequant(np.empty((0, 256), np.uint8), np.empty((0, 2), np.float32))
        self.assertEqual((y.shape, y.dtype), ((0, 256), np.float32))

    def test_refuses_as_the_original_asserts(self):
        codes, scales = all_codes(256, 256), np.ones((2, 2), np.float32)
        wrong = [
            (codes.T, scales, {}, "contiguous"),
            (codes, np.ones((4, 4), np.float32)[::2, ::2], {}, "contiguous"),
            (codes.reshape(-1), scales, {}, "2 dimensions"),
            (codes, scales[:1], {}, r"s has shape \(1, 2\), not \(2, 2\)"),
            (codes.astype(np.float32), scales, {}, "float32, not FP8"),
            (codes, scales.astype(np.float64), {}, "s has type float64"),
            (codes, scales, {"block_size": 0}, "block_size"),
            (codes, scales, {"dtype": np.int32}, "int32"),
            (codes.tolist(), scales, {}, "x is a list"),
        ]
        for x, s, keywords, message in wrong:
            with self.subTest(message=message), self.assertRaisesRegex(AssertionError, message):
                ktjit.fp8.weight_dequant(x, s, **keywords)

    @unittest.skipIf(ml_dtypes is None, "no ml_dtypes")
    def test_takes_types_of_ml_dtypes(self):
        codes = all_codes(100, 64)
        scales = np.array([[0.5], [4.0], [0.25], [8.0]], np.float32)
        wide = reference.spread(scales, 32, 32, 100, 64)
        wide = np.repeat(wide, 64, axis=1)[:, :64]
        scales = np.repeat(scales, 2, axis=1)
        for code_type, values in (
            (ml_dtypes.float8_e4m3fn, reference.E4M3),
            (ml_dtypes.float8_e5m2, reference.E5M2),
        ):
            for scale_type in (ml_dtypes.bfloat16, ml_dtypes.float8_e8m0fnu):
                y = ktjit.fp8.weight_dequant(
                    codes.view(code_type), scales.astype(scale_type), 32
                )
                self.assertTrue(reference.same_bits(y, values[codes] * wide))


class ActQuant(unittest.TestCase):
    def check(self, x, group):
        y, s = ktjit.fp8.act_quant(x, group)
        codes, scales = reference.act_quant(x, group)
        self.assertEqual((y.dtype, s.dtype), (np.uint8, np.float32))
        self.assertTrue(reference.same_bits(s, scales))
        np.testing.assert_array_equal(y, codes)

    def test_equals_the_reference_to_the_bit(self):
        random = np.random.default_rng(2)
        for shape, group in [((3, 256), 128), ((2, 5, 384), 128), ((128,), 128), ((7, 96), 32),
                             ((4, 60), 20)]:
            for kind in (np.float32, np.float16):
                with self.subTest(shape=shape, group=group, kind=kind):
                    x = random.normal(0, 3, shape).astype(kind)
                    x.reshape(-1)[::17] *= 40
                    self.check(x, group)

    def test_a_group_of_zeros_gives_zeros_and_the_scale_1(self):
        x = np.random.default_rng(3).normal(0, 1, (4, 256)).astype(np.float32)
        x[1, :128] = 0
        x[2] = 0
        y, s = ktjit.fp8.act_quant(x)
        self.assertEqual(s[1, 0], 1)
        self.assertEqual(s[2].tolist(), [1, 1])
        self.assertFalse(y[1, :128].any() or y[2].any())
        self.check(x, 128)

    def test_tiny_and_large_groups(self):
        x = np.zeros((4, 128), np.float32)
        x[0] = np.linspace(1e-30, 3e-30, 128)
        x[1] = np.linspace(-3e38, 3e38, 128)
        x[2, 5] = -448
        x[3, 7] = 1e-45  # its scale would be zero
        self.check(x, 128)

    def test_ue8m0_scales_are_powers_of_two_rounded_up(self):
        random = np.random.default_rng(4)
        x = (random.normal(0, 1, (40, 256)) * 10.0 ** random.integers(-20, 20, (40, 1))).astype(
            np.float32
        )
        x[3, :128] = 0
        x[4, :128] = 0
        x[4, 5] = 448 * 8  # exactly a power of two: not rounded further up
        y, s = ktjit.fp8.act_quant(x, scale_fmt="ue8m0")
        exact = np.abs(x).reshape(40, 2, 128).max(axis=2) / reference.E4M3_MAX
        mantissa, _ = np.frexp(s)
        self.assertTrue((mantissa == 0.5).all())
        busy = exact > 0
        self.assertTrue((s[busy] >= exact[busy]).all() and (s[busy] < 2 * exact[busy]).all())
        self.assertEqual(s[3, 0], 1)
        self.assertEqual(s[4, 0], 8)
        codes = reference.encode_e4m3(x / np.repeat(s, 128, axis=1))
        np.testing.assert_array_equal(y, codes)

    def test_refuses_as_the_original_asserts(self):
        x = np.ones((4, 256), np.float32)
        for bad, keywords, message in [
            (x.T, {}, "contiguous"),
            (x, {"block_size": 100}, "256, must be divisible by block_size, 100"),
            (x.astype(np.int32), {}, "int32"),
            (np.float32(1), {}, "float32, not a numpy array"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(AssertionError, message):
                ktjit.fp8.act_quant(bad, **keywords)
        with self.assertRaisesRegex(ktjit.SpecError, "scale_fmt: 'e4m3'"):
            ktjit.fp8.act_quant(x, scale_fmt="e4m3")

    def test_takes_no_rows(self):
        y, s = ktjit.fp8.act_quant(np.empty((0, 256), np.float32))
        self.assertEqual((y.shape, s.shape), ((0, 256), (0, 2)))
        y, s = ktjit.fp8.act_quant(np.empty((0, 256), np.float32), scale_fmt="ue8m0")
        self.assertEqual((y.shape, s.shape), ((0, 256), (0, 2)))


class Fp8Gemm(unittest.TestCase):
    def check(self, m, n, k, block, dtype=None, **keywords):
        random = np.random.default_rng(m * 1000 + n)
        a, a_s = reference.act_quant(random.normal(0, 1, (m, k)).astype(np.float32), block)
        b = reference.encode_e4m3(random.normal(0, 60, (n, k)).astype(np.float32))
        b_s = random.uniform(1e-3, 1, (-(-n // block), -(-k // block))).astype(np.float32)
        left = reference.E4M3[a].astype(np.float64) * np.repeat(a_s, block, axis=1)
        right = reference.E4M3[b].astype(np.float64) * reference.spread(b_s, block, block, n, k)
        exact = left @ right.T
        magnitudes = np.abs(left) @ np.abs(right).T

        c = ktjit.fp8.fp8_gemm(a, a_s, b, b_s, dtype=dtype, **keywords)
        self.assertEqual((c.shape, c.dtype), ((m, n), np.dtype(dtype or np.float32)))
        bound = (k / 16 + 16) * 2.0**-24 * magnitudes
        if dtype == np.float16:
            bound = bound + 2.0**-11 * np.abs(exact) + 2.0**-25
        self.assertLessEqual(np.max(np.abs(c - exact) - bound), 0)

    def test_stays_within_the_bound_of_float32_sums(self):
        for m, n, k, block in [(1, 128, 128, 128), (5, 200, 384, 128), (17, 576, 512, 128),
                               (3, 33, 96, 32), (64, 130, 256, 64)]:
            with self.subTest(m=m, n=n, k=k, block=block):
                self.check(m, n, k, block)

    def test_results_of_other_types(self):
        self.check(4, 70, 256, 128, np.float16)
        self.check(4, 70, 256, 128, np.float64)

    def test_the_block_can_be_named(self):
        self.check(4, 70, 256, 64, block_size=64)

    def test_a_of_three_dimensions(self):
        x = np.random.default_rng(5).normal(0, 1, (2, 3, 256)).astype(np.float32)
        a, a_s = reference.act_quant(x, 128)
        b = reference.encode_e4m3(np.ones((10, 256), np.float32))
        b_s = np.ones((1, 2), np.float32)
        c = ktjit.fp8.fp8_gemm(a, a_s, b, b_s)
        flat = ktjit.fp8.fp8_gemm(a.reshape(6, 256), a_s.reshape(6, 2), b, b_s)
        self.assertEqual(c.shape, (2, 3, 10))
        self.assertTrue(reference.same_bits(c.reshape(6, 10), flat))

    def test_refuses_as_the_original_asserts(self):
        a, a_s = np.zeros((4, 256), np.uint8), np.ones((4, 2), np.float32)
        b, b_s = np.zeros((10, 256), np.uint8), np.ones((1, 2), np.float32)
        for arguments, message in [
            ((a.T, a_s, b, b_s), "a must be contiguous"),
            ((a, np.ones((2, 4), np.float32).T, b, b_s), "a_s must be contiguous"),
            ((a, a_s, b[:, :128].copy(), b_s), "a has 256 columns, b 128"),
            ((a, a_s, b, np.ones((2, 2), np.float32)), r"b_s of shape \(2, 2\) don't fit"),
            ((a, a_s.astype(np.float64), b, b_s), "a_s has type float64"),
            ((a.astype(np.float32), a_s, b, b_s), "a has type float32"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(AssertionError, message):
                ktjit.fp8.fp8_gemm(*arguments)

    def test_takes_no_rows(self):
        c = ktjit.fp8.fp8_gemm(
            np.zeros((0, 256), np.uint8), np.ones((0, 2), np.float32),
            np.zeros((10, 256), np.uint8), np.ones((1, 2), np.float32))
        self.assertEqual(c.shape, (0, 10))


class Kernels(unittest.TestCase):
    def test_a_repeated_call_loads_nothing(self):
        codes, scales = all_codes(256, 128), np.ones((2, 1), np.float32)
        ktjit.fp8.weight_dequant(codes, scales)
        before = ktjit.loaded_kernels()
        ktjit.fp8.weight_dequant(codes, scales)
        ktjit.fp8.weight_dequant(codes[:128], scales[:1])  # rows are no part of a kernel
        self.assertEqual(ktjit.loaded_kernels().keys(), before.keys())
        for (device, spec), info in before.items():
            self.assertEqual(device, "cpu")
            self.assertIn(spec.op, info["name"])
            self.assertTrue(info["is_loaded"])

    def test_emit_needs_no_device(self):
        info = ktjit.emit("matvec", "fp8_e4m3", 7168, "sm_86", scale_type="f32",
                          scale_block_rows=128, scale_block_cols=128)
        self.assertIn("__global__", info["source"])
        self.assertIn("software", info["lowering"])
        self.assertIsNone(info["artifact"])
        with self.assertRaisesRegex(ktjit.SpecError, "sm_1"):
            ktjit.emit("matvec", "fp8_e4m3", 7168, "sm_1")

    def test_errors_have_the_class_of_who_has_to_act(self):
        with self.assertRaisesRegex(ktjit.ToolchainError, "cuda"):
            ktjit.device("cuda:99")
        with self.assertRaisesRegex(ValueError, "tpu"):
            ktjit.device("tpu")
        with self.assertRaisesRegex(ktjit.ToolchainError, "/nowhere/ktjit-llvm"):
            try:
                ktjit.configure(worker="/nowhere/ktjit-llvm", cache=False)
                ktjit.fp8.weight_dequant(all_codes(128, 128), np.ones((1, 1), np.float32))
            finally:
                ktjit.configure()


if __name__ == "__main__":
    unittest.main()
