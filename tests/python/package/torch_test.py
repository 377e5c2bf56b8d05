"""ktjit.fp8 and ktjit.gguf on torch tensors: the CPU's, and a GPU's where there is one."""

import unittest

import numpy as np

import ktjit
import reference
from gguf_test import q8_0

try:
    import torch
except ImportError:
    torch = None


@unittest.skipIf(torch is None, "no torch")
class Torch(unittest.TestCase):
    device = "cpu"

    def setUp(self):
        self.addCleanup(torch.set_default_dtype, torch.get_default_dtype())

    def random(self, *shape):
        generator = torch.Generator().manual_seed(1)
        return torch.randn(*shape, generator=generator).to(self.device)

    def weights(self, rows, cols, block):
        codes = (self.random(rows, cols) * 60).clamp(-448, 448).to(torch.float8_e4m3fn)
        scales = self.random(-(-rows // block), -(-cols // block)).abs() + 0.01
        return codes, scales

    def test_weight_dequant_equals_torch(self):
        codes, scales = self.weights(200, 300, 128)
        wide = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)[:200, :300]
        expected = codes.float() * wide
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            torch.set_default_dtype(dtype)
            y = ktjit.fp8.weight_dequant(codes, scales)
            self.assertEqual((y.dtype, y.device), (dtype, codes.device))
            self.assertTrue(torch.equal(y, expected.to(dtype)))

    def test_act_quant_equals_torch(self):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            x = self.random(3, 5, 384).to(dtype)
            x[1, 2, :128] = 0
            y, s = ktjit.fp8.act_quant(x)
            self.assertEqual((y.dtype, s.dtype), (torch.float8_e4m3fn, torch.float32))
            self.assertEqual(tuple(s.shape), (3, 5, 3))
            groups = x.float().reshape(-1, 128)
            # By a tensor: torch multiplies by the reciprocal of a number on GPUs.
            scale = groups.abs().amax(1) / torch.tensor(448.0, device=groups.device)
            scale = torch.where(scale == 0, torch.ones_like(scale), scale)
            codes = (groups / scale[:, None]).to(torch.float8_e4m3fn)
            self.assertTrue(torch.equal(s.reshape(-1), scale))
            self.assertTrue(
                torch.equal(y.reshape(-1, 128).view(torch.uint8), codes.view(torch.uint8))
            )

    def test_act_quant_with_ue8m0(self):
        x = self.random(4, 256).to(torch.bfloat16)
        y, s = ktjit.fp8.act_quant(x, 128, "ue8m0")
        scale = torch.exp2(torch.ceil(torch.log2(x.float().reshape(8, 128).abs().amax(1) / 448)))
        self.assertTrue(torch.equal(s.reshape(-1), scale))
        codes = (x.float().reshape(8, 128) / scale[:, None]).to(torch.float8_e4m3fn)
        self.assertTrue(torch.equal(y.reshape(8, 128).float(), codes.float()))

    def test_fp8_gemm_stays_within_the_bound(self):
        x = self.random(2, 9, 512)
        a, a_s = ktjit.fp8.act_quant(x)
        b, b_s = self.weights(200, 512, 128)
        left = a.double().reshape(18, 512) * a_s.double().reshape(18, 4).repeat_interleave(128, 1)
        wide = b_s.repeat_interleave(128, 0).repeat_interleave(128, 1)[:200]
        right = b.double() * wide.double()
        exact = left @ right.T
        bound = (512 / 16 + 16) * 2.0**-24 * (left.abs() @ right.abs().T)
        for dtype, unit in ((torch.float32, 0), (torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)):
            torch.set_default_dtype(dtype)
            for precise, slack in ((True, 0), (False, 2.0**-9)):  # of the magnitudes, on Hopper
                c = ktjit.fp8.fp8_gemm(a, a_s, b, b_s, precise=precise)
                self.assertEqual((c.dtype, tuple(c.shape)), (dtype, (2, 9, 200)))
                error = (c.double().reshape(18, 200) - exact).abs() - bound - unit * exact.abs()
                self.assertLessEqual((error - slack * (left.abs() @ right.abs().T)).max().item(), 0)

    def test_gguf(self):
        scales = np.full((4, 2, 1), 0.5, np.float16)
        codes = np.arange(4 * 64, dtype=np.int16).astype(np.int8).reshape(4, 2, 32)
        data = np.concatenate([scales.view(np.uint8), codes.view(np.uint8)], axis=2).reshape(-1)
        values = torch.from_numpy(codes.reshape(4, 64) * np.float32(0.5)).to(self.device)
        bytes_ = torch.from_numpy(data).to(self.device)
        y = ktjit.gguf.dequant(bytes_, "q8_0", 4, 64, dtype=torch.bfloat16)
        self.assertTrue(torch.equal(y, values.to(torch.bfloat16)))
        x = torch.ones(3, 64, device=self.device)
        self.assertTrue(torch.equal(ktjit.gguf.matvec(bytes_, "q8_0", 4, 64, x), x @ values.T))

    def test_refuses_mixed_arguments(self):
        codes, scales = self.weights(128, 128, 128)
        for x, s, message in [
            (codes, np.ones((1, 1), np.float32), "of one kind"),
            (codes, scales.to("meta"), "meta"),
            (codes.T[:, :100], scales, "contiguous"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(AssertionError, message):
                ktjit.fp8.weight_dequant(x, s)


@unittest.skipIf(torch is None or not torch.cuda.is_available(), "no GPU that torch can use")
class TorchOnGpu(Torch):
    device = "cuda"

    def test_work_goes_to_the_current_stream(self):
        codes, scales = self.weights(4096, 4096, 128)
        expected = ktjit.fp8.weight_dequant(codes, scales)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)
            start = codes.clone()  # done after the sleep, on this stream
            y = ktjit.fp8.weight_dequant(start, scales)
        stream.synchronize()
        self.assertTrue(torch.equal(y, expected))

    def test_weights_are_prepared_once_and_stay(self):
        data, values = q8_0(200, 1056, 7)
        data, values = torch.from_numpy(data).cuda(), torch.from_numpy(values).cuda()
        weights = ktjit.gguf.PreparedWeights(data, "q8_0", 200, 1056)
        self.assertTrue(torch.equal(weights.restore(), data))
        self.assertTrue(torch.equal(weights.dequant(), values))
        for shape in ((1056,), (5, 1056), (11, 1056)):
            x = self.random(*shape)
            y = weights.matvec(x, dtype=torch.float32)
            bound = 82 * 2.0**-24 * (x.double().abs() @ values.double().abs().T)
            self.assertEqual((y.device, y.shape), (data.device, x.shape[:-1] + (200,)))
            self.assertTrue(torch.all((y - x.double() @ values.double().T).abs() <= bound))
        call = ktjit.prepare(weights.matvec, x)
        self.assertTrue(torch.equal(call(), y))

    def test_a_load_under_capture_is_named_and_a_launch_is_captured(self):
        codes, scales = self.weights(256, 320, 32)
        graph = torch.cuda.CUDAGraph()
        with self.assertRaises(ktjit.CaptureError), torch.cuda.graph(graph):
            ktjit.fp8.weight_dequant(codes, scales, 32)
        expected = ktjit.fp8.weight_dequant(codes, scales, 32)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = ktjit.fp8.weight_dequant(codes, scales, 32)
        y.zero_()
        graph.replay()
        torch.cuda.synchronize()
        self.assertTrue(torch.equal(y, expected))


if __name__ == "__main__":
    unittest.main()
