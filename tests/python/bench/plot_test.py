"""bench/plot.py: what goes into which chart, and that charts are drawn, where matplotlib is."""

import contextlib
import importlib.util
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from xml.etree import ElementTree

BENCH = Path(__file__).resolve().parents[3] / "bench"
sys.path.insert(0, str(BENCH))

import plot  # noqa: E402


def result(format, rows, percent, **fields):
    return {"op": "matvec", "format": format, "rows": rows, "cols": 256, "n": 1, "target": "sm_90a",
            "dependent_launch": False, "ok": True, "percent_of_read": percent, "streamed_bytes": rows * 144,
            **fields}


class Plots(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = Path(self.folder.name) / "figures.json"
        self.write({"read_gbps": 200.0,
                    "results": [result("q4_K", 64, 90.0), result("q4_K", 128, 95.0), result("bf16", 64, 99.0),
                                result("q4_K", 64, 85.0, target="sm_86"), result("q8_0", 64, None),
                                result("q6_K", 64, 120.0, ok=False)],
                    "peers": [{"op": "matvec", "format": "q4_K", "rows": 64, "cols": 256, "n": 1,
                               "peer": "llama.cpp", "variant": "file", "gbps": 100.0}]})

    def write(self, value):
        self.path.write_text(json.dumps(value), encoding="utf-8")

    def test_charts_hold_what_is_right_and_larger_than_the_caches(self):
        results, peers = plot.load_figures([self.path])
        self.assertEqual([one["format"] for one in results], ["q4_K", "q4_K", "bf16", "q4_K"])
        self.assertEqual(peers[0]["percent_of_read"], 50.0)
        charts = plot.by_format(results)
        self.assertEqual(charts["matvec", 64, 256, 1, False],
                         {"sm_90a": {"q4_K": 90.0, "bf16": 99.0}, "sm_86": {"q4_K": 85.0}})
        self.assertEqual(plot.by_size(results),
                         {("matvec", "sm_90a"): {"q4_K": [(64 * 144, 90.0), (128 * 144, 95.0)]}})

    def test_other_files_are_refused_by_name(self):
        for value in ([], {"results": []}, {"read_gbps": 1, "results": [{}]}):
            self.write(value)
            with self.assertRaisesRegex(ValueError, "figures.json: no figures"):
                plot.load_figures([self.path])

    def test_nothing_to_draw_is_an_error(self):
        self.write({"read_gbps": 200.0, "results": []})
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as raised:
            plot.main([str(self.path), "--out", self.folder.name])
        self.assertEqual(raised.exception.code, 2)
        self.assertIn("larger than the caches", said.getvalue())

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "matplotlib is not here")
    def test_charts_are_drawn_the_same_each_time(self):
        out = Path(self.folder.name) / "plots"
        drawn = []
        for _ in range(2):
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(plot.main([str(self.path), "--out", str(out)]), 0)
            drawn.append({path.name: path.read_bytes() for path in out.iterdir()})
        self.assertEqual(drawn[0], drawn[1])
        self.assertEqual(set(drawn[0]), {"matvec_64x256.svg", "matvec_128x256.svg", "matvec_by_size_sm_90a.svg"})
        for text in drawn[0].values():
            self.assertTrue(ElementTree.fromstring(text).tag.endswith("svg"))
        self.assertIn(b"llama.cpp", drawn[0]["matvec_64x256.svg"])


if __name__ == "__main__":
    unittest.main()
