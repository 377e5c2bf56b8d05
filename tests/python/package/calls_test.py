"""Repeated and prepared calls: cheap, and as checked as the first one."""

import unittest

import numpy as np

import ktjit
from ktjit import _calls, _kernels


def q8_0_of_ones(rows, cols):
    """The bytes of a matrix of ones."""
    block = np.concatenate([np.array([1.0], np.float16).view(np.uint8), np.ones(32, np.uint8)])
    return np.tile(block, rows * cols // 32)


class RepeatedCalls(unittest.TestCase):
    def setUp(self):
        self.x = np.full((256, 384), 0x38, np.uint8)  # 1.0
        self.s = np.ones((2, 3), np.float32)

    def test_a_repeated_call_looks_nothing_up_but_its_plan(self):
        first = ktjit.fp8.weight_dequant(self.x, self.s)
        plans = dict(_calls._plans)
        load = _kernels.load
        self.addCleanup(setattr, _kernels, "load", load)
        _kernels.load = None  # whoever calls it fails
        data = np.zeros(self.x.size + 16, np.uint8)
        at = -data.ctypes.data % 16
        aligned = data[at : at + self.x.size].reshape(self.x.shape)
        aligned[:] = self.x
        y = np.empty_like(first)
        for _ in range(3):
            y = ktjit.fp8.weight_dequant(aligned, 2 * self.s)
        self.assertTrue(np.array_equal(y, 2 * first))
        self.assertEqual(plans, _calls._plans)

    def test_checks_follow_a_good_call(self):
        ktjit.fp8.weight_dequant(self.x, self.s)
        for x, s, block, message in [
            (self.x.T, self.s, 128, "contiguous"),
            (np.asfortranarray(self.x), self.s, 128, "contiguous"),
            (self.x, np.asfortranarray(self.s), 128, "contiguous"),
            (self.x, self.s[:1], 128, "s has shape"),
            (self.x, self.s.astype(np.float64), 128, "s has type float64"),
            (self.x.astype(np.int16), self.s, 128, "x has type int16"),
            (self.x.tolist(), self.s, 128, "x is a list"),
            (self.x, self.s, [128], "block_size"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(AssertionError, message):
                ktjit.fp8.weight_dequant(x, s, block)
        data, v = q8_0_of_ones(4, 64), np.ones(64, np.float32)
        ktjit.gguf.matvec(data, "q8_0", 4, 64, v)
        for arguments, message in [
            ((data[1:], "q8_0", 4, 64, v), "bytes"),
            ((data, "q8_0", 5, 64, v), "bytes"),
            ((data, "q8_0", 4, 64, v[1:]), "x has shape"),
            ((data, "q8_0", 4, 64, np.ones(128, np.float32)[::2]), "contiguous"),
            ((data.view(np.int8), "q8_0", 4, 64, v), "type int8"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(AssertionError, message):
                ktjit.gguf.matvec(*arguments)

    def test_addresses_of_any_alignment_share_a_plan(self):
        data = q8_0_of_ones(4, 64)
        room = np.empty(data.size + 32, np.uint8)
        for shift in range(17):
            moved = room[shift : shift + data.size]
            moved[:] = data
            y = ktjit.gguf.matvec(moved, "q8_0", 4, 64, np.ones((3, 64), np.float32))
            self.assertTrue(np.array_equal(y, np.full((3, 4), 64)))

    def test_more_than_eight_rows_of_x_are_several_launches(self):
        data = q8_0_of_ones(5, 64)
        x = np.arange(19, dtype=np.float32)[:, None] * np.ones((19, 64), np.float32)
        y = ktjit.gguf.matvec(data, "q8_0", 5, 64, x)
        self.assertTrue(np.array_equal(y, 64 * x[:, :5]))
        self.assertEqual(ktjit.gguf.matvec(data, "q8_0", 5, 64, x[:0]).shape, (0, 5))

    def test_many_shapes_are_forgotten_again(self):
        self.addCleanup(setattr, _calls, "_MOST_PLANS", _calls._MOST_PLANS)
        _calls._MOST_PLANS = 4
        for rows in range(1, 12):
            ktjit.fp8.act_quant(np.ones((rows, 128), np.float32))
        self.assertLessEqual(len(_calls._plans), 4)

    def test_configure_forgets_plans(self):
        ktjit.fp8.weight_dequant(self.x, self.s)
        self.assertTrue(_calls._plans)
        ktjit.configure()
        self.assertFalse(_calls._plans)


class PreparedCalls(unittest.TestCase):
    def test_each_call_works_on_the_same_arrays_again(self):
        codes = np.full((128, 256), 0x38, np.uint8)
        scales = np.ones((1, 2), np.float32)
        call = ktjit.prepare(ktjit.fp8.weight_dequant, codes, scales)
        y = call()
        self.assertTrue(np.array_equal(y, np.ones((128, 256))))
        scales[:] = 3
        codes[0, 0] = 0
        self.assertIs(call(), y)
        self.assertIs(call.result, y)
        self.assertTrue(np.array_equal(y.ravel()[1:], np.full(128 * 256 - 1, 3)))
        self.assertEqual(y[0, 0], 0)

    def test_every_function_can_be_prepared(self):
        x = np.linspace(-3, 3, 6 * 256, dtype=np.float32).reshape(6, 256)
        a, a_s = ktjit.fp8.act_quant(x)
        b = np.full((128, 256), 0x40, np.uint8)
        b_s = np.ones((1, 2), np.float32)
        data, v = q8_0_of_ones(4, 256), np.ones((19, 256), np.float32)
        for function, arguments in [
            (ktjit.fp8.act_quant, (x,)),
            (ktjit.fp8.fp8_gemm, (a, a_s, b, b_s)),
            (ktjit.fp8.weight_dequant, (b, b_s)),
            (ktjit.gguf.dequant, (data, "q8_0", 4, 256)),
            (ktjit.gguf.matvec, (data, "q8_0", 4, 256, v)),
        ]:
            with self.subTest(function=function.__name__):
                expected = function(*arguments)
                call = ktjit.prepare(function, *arguments)
                given = call()
                if not isinstance(expected, tuple):
                    expected, given = (expected,), (given,)
                for left, right in zip(expected, given):
                    self.assertTrue(np.array_equal(left, right))

    def test_arrays_live_as_long_as_the_call(self):
        call = ktjit.prepare(ktjit.gguf.dequant, q8_0_of_ones(512, 256), "q8_0", 512, 256)
        others = [np.full(512 * 256 // 32 * 34, i, np.uint8) for i in range(8)]
        self.assertTrue(np.array_equal(call(), np.ones((512, 256))))
        self.assertEqual(len(others), 8)

    def test_a_call_of_no_rows_gives_its_empty_result(self):
        call = ktjit.prepare(ktjit.fp8.act_quant, np.ones((0, 128), np.float32))
        y, s = call()
        self.assertEqual((y.shape, s.shape), ((0, 128), (0, 1)))

    def test_refuses_what_kernels_alone_do_not_give(self):
        x = np.ones((4, 128), np.float32)
        codes, scales = np.zeros((128, 128), np.uint8), np.ones((1, 1), np.float32)
        for arguments, options, message in [
            ((print, 1), {}, "can't be prepared"),
            ((ktjit.fp8.act_quant, x, 128, "ue8m0"), {}, "scale_fmt"),
            ((ktjit.fp8.weight_dequant, codes, scales), {"dtype": np.float64}, "f64"),
            ((ktjit.fp8.weight_dequant, codes, scales[:0]), {}, "s has shape"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(AssertionError, message):
                ktjit.prepare(*arguments, **options)


class DependentLaunches(unittest.TestCase):
    def test_emitted_text_waits_for_the_kernel_ahead(self):
        info = ktjit.emit("matvec", "q4_K", 4096, "sm_90a", dependent_launch=True)
        self.assertIn("griddepcontrol.wait", info["source"])
        self.assertIn("dependent_launch: yes", info["spec"])
        with self.assertRaisesRegex(ktjit.SpecError, "sm_90"):
            ktjit.emit("matvec", "q4_K", 4096, "sm_89", dependent_launch=True)

    def test_cpu_arrays_are_as_ever(self):
        self.addCleanup(ktjit.configure)
        ktjit.configure(dependent_launch=True)
        y = ktjit.gguf.dequant(q8_0_of_ones(2, 64), "q8_0", 2, 64)
        self.assertTrue(np.array_equal(y, np.ones((2, 64))))


if __name__ == "__main__":
    unittest.main()
