"""bench/bench_suite.py and the parts of bench/gpu_peers.py that need no GPU."""

import json
import sys
import tempfile
import unittest
from pathlib import Path

BENCH = Path(__file__).resolve().parents[3] / "bench"
sys.path.insert(0, str(BENCH))

import bench_suite  # noqa: E402
import gpu_peers  # noqa: E402


def result(**fields):
    """A result of `ktjit bench`."""
    base = {"op": "matvec", "format": "q4_K", "rows": 64, "cols": 256, "n": 1, "target": "sm_90a",
            "dependent_launch": False, "ok": True, "samples_us": [1.0, 2.0, 3.0], "median_us": 2.0,
            "gbps": 10.0, "streamed_bytes": 20000, "percent_of_read": 5.0, "tflops": None}
    return {**base, **fields}


def document(results):
    return {"results": results, "native_target": "sm_90a", "read_gbps": 200.0, "ktjit": "1", "driver": None,
            "device_description": "a GPU"}


class SuiteFiles(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, value):
        path = Path(self.folder.name) / "suite.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    def group(self, **fields):
        return {"groups": [{"title": "t", "op": "matvec", "shape": "64x256", "bars": {"q4_K": 5}, **fields}]}

    def test_the_suite_of_the_h200_has_all_works(self):
        suite = bench_suite.load_suite(BENCH / "suites" / "h200.json")
        works = suite.works()
        self.assertEqual(len(works), len(set(works)))
        bars = {(work.op, work.format, work.shape, work.target, work.n): work.bar for work in works}
        self.assertEqual(bars["dequant", "fp8_e4m3", "7168x18432", "sm_86", 1], 3970)
        self.assertEqual(bars["matvec", "q6_K", "128256x4096", "native", 1], 4200)
        self.assertEqual(bars["matvec", "iq2_s", "128256x4096", "native", 1], {"times_llama_cpp": 2})
        self.assertIn(("moe_matvec", "q4_K", "768x2048", "native", 8), bars)

    def test_every_bar_in_llama_cpp_s_figures_has_one(self):
        table = bench_suite.LlamaCpp(BENCH / "llama_cpp_h200.json")
        for work in bench_suite.load_suite(BENCH / "suites" / "h200.json").works():
            if isinstance(work.bar, dict) and "times_llama_cpp" in work.bar:
                self.assertIsNotNone(table.gbps(work), work)

    def test_what_is_wrong_with_a_suite_is_said(self):
        wrong = [
            ("{", "no JSON"),
            (self.group(then=["32x512"], n=[1, 2]), "one format, one n and one target"),
            (self.group(then=["32"]), "then: shape is '32'"),
            ({}, "list \"groups\""),
            ({"groups": []}, "list \"groups\""),
            (self.group(shpae="8x8"), "unknown field 'shpae'"),
            (self.group(shape="64"), "shape is '64'"),
            (self.group(shape="0x8"), "shape is '0x8'"),
            (self.group(op=""), "op is missing"),
            (self.group(n=[]), "n is []"),
            (self.group(bars={"q4_K": "fast"}), "bar is 'fast'"),
            (self.group(bars={"q4_K": True}), "bar is True"),
            (self.group(bars={"q4_K": {"times_cublas": 2}}), "bar is"),
            (self.group(bars={"q4_K": {"times_one_column": {"2": 1.1}}}, n=[2]), "times_one_column needs n 1"),
            ({"defaults": {"op": "matvec"}, **self.group()}, "unknown default 'op'"),
        ]
        for value, words in wrong:
            with self.subTest(value=value):
                with self.assertRaises(bench_suite.SuiteError) as raised:
                    bench_suite.load_suite(self.write(value))
                self.assertIn(words, str(raised.exception))
        with self.assertRaises(bench_suite.SuiteError):
            bench_suite.load_suite(Path(self.folder.name) / "absent.json")

    def test_a_group_becomes_one_call(self):
        suite = bench_suite.load_suite(self.write(self.group(
            n=[1, 2], targets=["native", "sm_86"], scale_block="128x128", dependent_launch=True, data="4G",
            bars={"q4_K": 5, "fp8_e4m3": 6})))
        [group] = suite.groups
        self.assertEqual(len(group.works), 8)
        self.assertEqual({work.scale_block for work in group.works if work.format == "q4_K"}, {""})
        self.assertEqual(group.command("ktjit", samples=9), [
            "ktjit", "bench", "--op", "matvec", "--format", "q4_K,fp8_e4m3", "--shape", "64x256",
            "--y-format", "f32", "--x-format", "f32", "--n", "1,2", "--scale-block", "128x128",
            "--target", "native", "--target", "sm_86", "--dependent-launch", "--data", "4G", "--samples", "9",
            "--json"])
        self.assertNotIn("--scale-block", group.command("ktjit", formats=["q4_K"]))

    def test_shapes_in_turn_are_one_figure(self):
        suite = bench_suite.load_suite(self.write(self.group(then=["32x512"], bars={"q4_K": 5})))
        [group] = suite.groups
        [work] = group.works
        self.assertEqual(work.name(), "matvec q4_K 64x256, then 32x512")
        command = group.command("ktjit")
        self.assertEqual(command[command.index("--shape") + 1], "64x256,32x512")
        self.assertIn("--in-turn", command)
        sequence = {"ok": True, "samples_us": [8.0], "median_us": 8.0, "gbps": 5.0, "streamed_bytes": 40000,
                    "percent_of_read": 2.5, "last": [{"problem": ""}, {"problem": ""}]}
        measured = {**document([result(), result(rows=32, cols=512)]), "in_turn": sequence}
        figures = gpu_peers.Figures()
        figures.add_ours(group, [measured], {})
        [ours] = figures.ours.values()
        self.assertEqual((ours["op"], ours["gbps"], ours["streamed_bytes"]), ("matvec in turn", 5.0, 40000))
        wrong = {**sequence, "ok": False, "last": [{"problem": ""}, {"problem": "y[0, 0] is 1"}]}
        figures.add_ours(group, [{**measured, "in_turn": wrong}], {})
        self.assertEqual(list(figures.not_run.values()), ["wrong result: y[0, 0] is 1"])


class Bars(unittest.TestCase):
    def work(self, **fields):
        base = {"title": "t", "op": "matvec", "format": "q4_K", "rows": 64, "cols": 256, "n": 1,
                "target": "native", "x_format": "f32", "y_format": "f32", "scale_block": "",
                "dependent_launch": False, "bar": 10}
        return bench_suite.Work(**{**base, **fields})

    def test_gigabytes_a_second(self):
        self.assertTrue(bench_suite.judge(self.work(), result(gbps=10.0), None, None).met)
        self.assertFalse(bench_suite.judge(self.work(), result(gbps=9.9), None, None).met)
        self.assertIsNone(bench_suite.judge(self.work(), None, None, None).met)

    def test_times_llama_cpp(self):
        table = bench_suite.LlamaCpp(BENCH / "llama_cpp_h200.json")
        work = self.work(format="iq2_s", rows=128256, cols=4096, bar={"times_llama_cpp": 2})
        self.assertTrue(bench_suite.judge(work, result(gbps=1968.0), None, table).met)
        self.assertFalse(bench_suite.judge(work, result(gbps=1967.0), None, table).met)
        no_figure = self.work(bar={"times_llama_cpp": 2})
        self.assertIsNone(bench_suite.judge(no_figure, result(), None, table).met)

    def test_times_one_column(self):
        work = self.work(n=4, bar={"times_one_column": {"4": 1.25}})
        one = result(median_us=4.0)
        self.assertTrue(bench_suite.judge(work, result(median_us=5.0), one, None).met)
        self.assertFalse(bench_suite.judge(work, result(median_us=5.1), one, None).met)
        self.assertIsNone(bench_suite.judge(work, result(), None, None).met)

    def make_group(self, formats):
        works = tuple(self.work(format=name) for name in formats)
        return bench_suite.Group("t", "matvec", "64x256", tuple(formats), (1,), ("native",), "f32", "f32", "",
                                 False, "", (), works)

    def test_a_format_that_is_refused_leaves_the_others(self):
        def run(command, timeout_s):
            formats = command[command.index("--format") + 1].split(",")
            if "bad" in formats:
                raise RuntimeError("exit code 2: unknown format")
            return document([result(format=name) for name in formats])

        group = self.make_group(["q4_K", "bad"])
        documents, failed = bench_suite.measure_group(group, "ktjit", run=run)
        self.assertEqual(failed, {"bad": "exit code 2: unknown format"})
        figures = gpu_peers.Figures()
        figures.add_ours(group, documents, failed)
        rows = gpu_peers.make_rows([group], figures, None)
        self.assertEqual([row["gbps"] for row in rows], [10.0, None])
        self.assertEqual(rows[1]["not_run"], "exit code 2: unknown format")
        self.assertIn("not run", gpu_peers.table_text(rows))

    def test_rounds_are_joined_and_a_wrong_one_is_no_figure(self):
        group = self.make_group(["q4_K"])
        figures = gpu_peers.Figures()
        figures.add_ours(group, [document([result()])], {})
        figures.add_ours(group, [document([result(samples_us=[4.0, 5.0])])], {})
        [ours] = figures.ours.values()
        self.assertEqual(ours["median_us"], 3.0)
        self.assertAlmostEqual(ours["gbps"], 20000 / 3.0 / 1e3)
        wrong = result(ok=False, first={"problem": "y[0, 0] is 1"}, last={"problem": ""})
        figures.add_ours(group, [document([wrong])], {})
        figures.add_ours(group, [document([result()])], {})
        self.assertEqual(figures.ours, {})
        self.assertEqual(list(figures.not_run.values()), ["wrong result: y[0, 0] is 1"])

    def test_the_best_peer_is_shown(self):
        group = self.make_group(["q4_K"])
        figures = gpu_peers.Figures()
        figures.add_ours(group, [document([result()])], {})
        figures.add_peer(group.works[0], "cuBLAS", {"mv": (20000, [4.0]), "mm": (20000, [5.0])})
        [row] = gpu_peers.make_rows([group], figures, None)
        self.assertEqual(row["peer"], "cuBLAS (mv)")
        self.assertAlmostEqual(row["ratio"], 2.0)

    def test_copies_as_ktjit_bench(self):
        mib = 1 << 20
        self.assertEqual(gpu_peers.copies_for(300 * mib, 60 * mib, 140 << 30), 4)
        self.assertEqual(gpu_peers.copies_for(9 * mib, 60 * mib, 140 << 30), 64)
        self.assertEqual(gpu_peers.copies_for(mib, 60 * mib, 140 << 30), 240)
        self.assertEqual(gpu_peers.copies_for(300 * mib, 60 * mib, 0), 1)

    def test_a_machine_without_torch_has_no_peers_and_says_why(self):
        if "torch" in sys.modules or gpu_peers.importlib.util.find_spec("torch"):
            self.skipTest("torch is here")
        peers, missing = gpu_peers.make_peers(3)
        self.assertEqual(peers, [])
        self.assertEqual([name for name, _ in missing], ["cuBLAS", "torch", "Triton"])
        self.assertTrue(all("no torch" in reason for _, reason in missing))

    def test_what_the_program_says_is_the_reason(self):
        with self.assertRaisesRegex(RuntimeError, "exit code 2: wrong option"):
            bench_suite.run_ktjit(["sh", "-c", "echo 'wrong option' >&2; exit 2"], 60)
        with self.assertRaisesRegex(RuntimeError, "no program /absent/ktjit"):
            bench_suite.run_ktjit(["/absent/ktjit"], 60)


if __name__ == "__main__":
    unittest.main()
