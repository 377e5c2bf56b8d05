#!/usr/bin/env python3
"""ktjit and its peers on one GPU, in one run: cuBLAS through torch, Triton, torch itself; llama.cpp from a file.

    python3 bench/gpu_peers.py --ktjit build/bin/ktjit [--suite bench/suites/h200.json] [--json OUT]

For each group of the suite: the peers, `ktjit bench`, and once more. A figure is the median of the samples of all
rounds. A peer that is missing, or can't do the work, is listed with the reason. docs/BENCH.md says what is
measured, and what the columns mean. Clocks and power limits are left as they are.

Exit code: 0 if every figure of ktjit's was measured and right, whether or not it reaches its bar; 1 otherwise.
"""

import argparse
import datetime
import importlib
import importlib.util
import json
import math
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_suite import (LlamaCpp, SuiteError, judge, load_suite, measure_group, results_of)

HERE = Path(__file__).parent
DATA_BYTES = 1 << 30  # operands to walk over, as `ktjit bench`
CACHES_OF_DATA = 4
MAX_COPIES = 64
MIN_SAMPLE_US = 2000
MAX_LAUNCHES = 4096
WARM_UP_S = 0.05


class NotRun(Exception):
    """Why a peer has no figure."""


def copies_for(bytes_once, cache_bytes, free_bytes):
    """As bench_copies of jit/bench_runner.h, with its default size."""
    data = max(DATA_BYTES, CACHES_OF_DATA * cache_bytes)
    wanted = min(math.ceil(data / bytes_once), MAX_COPIES)
    wanted = max(wanted, min(math.ceil(CACHES_OF_DATA * cache_bytes / bytes_once), math.ceil(data / bytes_once)))
    return max(1, min(wanted, free_bytes // 2 // bytes_once))


class TorchGpu:
    """Times calls of torch's as CUDA graphs, the way `ktjit bench` does."""

    def __init__(self, samples):
        try:
            self.torch = importlib.import_module("torch")
        except ImportError as error:
            raise NotRun(f"no torch: {error}") from error
        if not self.torch.cuda.is_available():
            raise NotRun("torch sees no GPU")
        self.samples = samples
        self.cache_bytes = self.torch.cuda.get_device_properties(0).L2_cache_size

    def copies(self, bytes_once):
        self.torch.cuda.empty_cache()
        return copies_for(bytes_once, self.cache_bytes, self.torch.cuda.mem_get_info()[0])

    def times_us(self, call, copies):
        """Of one call, in each sample: `call(i)` works on copy i, on the current stream."""
        torch = self.torch
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for i in range(copies):  # compiles, chooses algorithms, allocates
                call(i)
            stream.synchronize()
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            for i in range(copies):
                call(i)
            end.record()
            end.synchronize()
            pass_us = max(begin.elapsed_time(end) * 1e3, 1.0)
        passes = min(max(1, math.ceil(MIN_SAMPLE_US / pass_us)), max(1, MAX_LAUNCHES // copies))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(passes):
                for i in range(copies):
                    call(i)
        started = time.monotonic()
        while time.monotonic() - started < WARM_UP_S:
            graph.replay()
            torch.cuda.synchronize()
        times = []
        for _ in range(self.samples):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) * 1e3 / (passes * copies))
        return times


class CuBlas:
    """torch.mv and torch.mm with weights of 16 bits; the results have the weights' type."""
    name = "cuBLAS"

    def __init__(self, gpu):
        self.gpu = gpu

    def serves(self, work):
        return work.op in ("matvec", "matmul") and work.format in ("bf16", "f16") and work.target == "native"

    def measure(self, work):
        """{variant: (bytes of one call, times)}."""
        torch = self.gpu.torch
        dtype = {"bf16": torch.bfloat16, "f16": torch.float16}[work.format]
        weight_bytes = work.rows * work.cols * 2
        copies = self.gpu.copies(weight_bytes)
        weights = [torch.randn((work.rows, work.cols), device="cuda", dtype=dtype) for _ in range(copies)]
        x = torch.randn((work.n, work.cols), device="cuda", dtype=dtype)
        y = [torch.empty((work.n, work.rows), device="cuda", dtype=dtype) for _ in range(copies)]
        variants = {"torch.mm": lambda i: torch.mm(x, weights[i].t(), out=y[i])}
        if work.n == 1:
            variants["torch.mv"] = lambda i: torch.mv(weights[i], x[0], out=y[i][0])
        return {name: (weight_bytes, self.gpu.times_us(call, copies)) for name, call in variants.items()}


class BlockDequant:
    """e4m3 codes with 128 x 128 scales to bf16: operands that the Triton kernel and torch share."""

    def __init__(self, gpu):
        self.gpu = gpu

    def serves(self, work):
        return (work.op == "dequant" and work.format == "fp8_e4m3" and work.scale_block == "128x128"
                and work.y_format == "bf16" and work.rows % 128 == 0 and work.cols % 128 == 0)

    def operands(self, work):
        """Codes (all finite ones, equally often), scales, results; and bytes read and written by one call."""
        torch = self.gpu.torch
        scale_shape = (work.rows // 128, work.cols // 128)
        bytes_once = work.rows * work.cols * 3 + scale_shape[0] * scale_shape[1] * 4
        copies = self.gpu.copies(bytes_once)
        codes = []
        for _ in range(copies):
            code = torch.randint(0, 254, (work.rows, work.cols), device="cuda", dtype=torch.uint8)
            code += (code >= 127).to(torch.uint8)  # leaves out 0x7f and 0xff
            codes.append(code.view(torch.float8_e4m3fn))
        scales = [torch.rand(scale_shape, device="cuda") + 0.5 for _ in range(copies)]
        out = [torch.empty((work.rows, work.cols), device="cuda", dtype=torch.bfloat16) for _ in range(copies)]
        return codes, scales, out, bytes_once

    def torch_dequant(self, codes, scales, out):
        rows, cols = codes.shape
        blocks = codes.float().view(rows // 128, 128, cols // 128, 128)
        out.copy_((blocks * scales[:, None, :, None]).view(rows, cols))


class TorchEager(BlockDequant):
    name = "torch"

    def serves(self, work):
        return super().serves(work) and work.target == "native"

    def measure(self, work):
        codes, scales, out, bytes_once = self.operands(work)
        call = lambda i: self.torch_dequant(codes[i], scales[i], out[i])
        return {"eager": (bytes_once, self.gpu.times_us(call, len(codes)))}


class Triton(BlockDequant):
    name = "Triton"

    def __init__(self, gpu):
        super().__init__(gpu)
        try:
            self.kernels = importlib.import_module("triton_dequant")
        except ImportError as error:
            raise NotRun(f"no Triton: {error}") from error

    def measure(self, work):
        if work.target != "native":
            capability = int(re.sub(r"\D", "", work.target))
            refusal = self.kernels.triton_refusal(capability)
            raise NotRun(refusal or f"its code for {work.target} can't be run on this GPU")
        codes, scales, out, bytes_once = self.operands(work)
        want = self.gpu.torch.empty_like(out[0])
        self.torch_dequant(codes[0], scales[0], want)
        results = {}
        for warps in (4, 8):
            call = lambda i: self.kernels.triton_dequant(codes[i], scales[i], out[i], warps)
            out[0].zero_()
            call(0)
            if not self.gpu.torch.equal(out[0], want):
                raise NotRun("its result differs from torch's")
            results[f"{warps} warps"] = (bytes_once, self.gpu.times_us(call, len(codes)))
        return results


def make_peers(samples):
    """The peers that are here, and (name, reason) of those that aren't."""
    missing = []
    try:
        gpu = TorchGpu(samples)
    except NotRun as error:
        return [], [(name, str(error)) for name in ("cuBLAS", "torch", "Triton")]
    peers = []
    for kind in (CuBlas, TorchEager, Triton):
        try:
            peers.append(kind(gpu))
        except NotRun as error:
            missing.append((kind.name, str(error)))
    return peers, missing


class Figures:
    """What all rounds measured of ktjit's and the peers' works."""

    def __init__(self):
        self.ours = {}       # work: result, with the samples of all rounds
        self.peers = {}      # (work, peer, variant): [bytes, samples]
        self.not_run = {}    # (work, who): reason
        self.documents = []  # of `ktjit bench`

    def add_ours(self, group, documents, failed):
        self.documents += documents
        for work in group.works:
            if work.format in failed:
                self.not_run[work, "ktjit"] = failed[work.format]
            for document in documents:
                for result in results_of(work, document):
                    self.add_result(work, result)
            if work not in self.ours and (work, "ktjit") not in self.not_run:
                self.not_run[work, "ktjit"] = "`ktjit bench` gave no such result"

    def add_result(self, work, result):
        if not result["ok"]:
            problems = [result.get("not_run", ""), result.get("first", {}).get("problem", ""),
                        result.get("last", {}).get("problem", "")]
            what = "" if "not_run" in result else "wrong result: "
            self.not_run[work, "ktjit"] = what + next((text for text in problems if text), "nothing was checked")
            self.ours.pop(work, None)
            return
        if (work, "ktjit") in self.not_run:
            return  # a wrong result in any round is no figure
        earlier = self.ours.get(work)
        samples = (earlier["samples_us"] if earlier else []) + result["samples_us"]
        self.ours[work] = with_samples(result, samples)

    def add_peer(self, work, peer, measured):
        for variant, (bytes_once, times) in measured.items():
            self.peers.setdefault((work, peer, variant), [bytes_once, []])[1].extend(times)

    def best_peer(self, work, llama_cpp):
        """(name, GB/s) of the fastest; (None, None) if there is none."""
        best = (None, None)
        for (of, peer, variant), (bytes_once, times) in self.peers.items():
            gbps = bytes_once / statistics.median(times) / 1e3
            if of == work and (best[1] is None or gbps > best[1]):
                best = (f"{peer} ({variant})", gbps)
        theirs = llama_cpp.gbps(work) if llama_cpp else None
        if theirs is not None and (best[1] is None or theirs > best[1]):
            best = ("llama.cpp (file)", theirs)
        return best


def with_samples(result, samples):
    """The result with other samples, and what follows from them."""
    median = statistics.median(samples)
    changed = {"samples_us": samples, "median_us": median, "min_us": min(samples), "max_us": max(samples),
               "gbps": result["streamed_bytes"] / median / 1e3}
    if result.get("percent_of_read") is not None:
        changed["percent_of_read"] = result["percent_of_read"] * changed["gbps"] / result["gbps"]
    if result.get("tflops") is not None:
        changed["tflops"] = result["tflops"] * changed["gbps"] / result["gbps"]
    return {**result, **changed}


def measure_suite(suite, groups, peers, arguments):
    figures = Figures()
    for number, group in enumerate(groups, 1):
        print(f"[{number}/{len(groups)}] {group.title}: {group.op} {group.shape}", file=sys.stderr, flush=True)
        for _ in range(arguments.rounds):
            for peer in peers:
                for work in group.works:
                    if not peer.serves(work) or (work, peer.name) in figures.not_run:
                        continue
                    try:
                        figures.add_peer(work, peer.name, peer.measure(work))
                    except NotRun as error:
                        figures.not_run[work, peer.name] = str(error)
                    except Exception as error:  # a peer's failure is its row's, not the run's
                        figures.not_run[work, peer.name] = f"{type(error).__name__}: {error}"
            if peers:
                peers[0].gpu.torch.cuda.empty_cache()  # leaves the memory to the other program
            documents, failed = measure_group(group, arguments.ktjit, arguments.samples)
            figures.add_ours(group, documents, failed)
    return figures


def make_rows(groups, figures, llama_cpp):
    """The table: one dictionary a work."""
    rows = []
    for group in groups:
        one_column = {(work.format, work.target): figures.ours.get(work) for work in group.works if work.n == 1}
        for work in group.works:
            ours = figures.ours.get(work)
            verdict = judge(work, ours, one_column.get((work.format, work.target)), llama_cpp)
            peer, peer_gbps = figures.best_peer(work, llama_cpp)
            rows.append({
                "title": work.title, "work": work.name(), "target": work.target,
                "gbps": ours["gbps"] if ours else None, "us": ours["median_us"] if ours else None,
                "bar": verdict.bar, "met": verdict.met, "peer": peer, "peer_gbps": peer_gbps,
                "ratio": ours["gbps"] / peer_gbps if ours and peer_gbps else None,
                "not_run": figures.not_run.get((work, "ktjit"), ""),
            })
    return rows


def table_text(rows):
    """For the terminal; a line with the title above each run of works that share one."""
    headings = ["work", "target", "us", "GB/s", "bar", "met", "peer", "peer GB/s", "ratio"]
    lines = []
    for row in rows:
        number = lambda value, digits: "" if value is None else f"{value:.{digits}f}"
        met = {None: "", True: "yes", False: "NO"}[row["met"]]
        lines.append([row["work"], row["target"], number(row["us"], 2), number(row["gbps"], 0) or "not run",
                      row["bar"], met, row["peer"] or "", number(row["peer_gbps"], 0), number(row["ratio"], 2)])
    widths = [max(len(line[i]) for line in [headings] + lines) for i in range(len(headings))]
    left = (0, 1, 6)
    join = lambda cells: "  ".join(cell.ljust(width) if i in left else cell.rjust(width)
                                   for i, (cell, width) in enumerate(zip(cells, widths))).rstrip()
    text, title = [join(headings)], None
    for row, line in zip(rows, lines):
        if row["title"] != title:
            title = row["title"]
            text.append(f"-- {title}")
        text.append(join(line))
    return "\n".join(text)


def gpu_state():
    """Name, driver, clocks and power as nvidia-smi reports them, or why there is nothing."""
    query = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit,temperature.gpu"
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True,
                              text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"not known: {error}"
    return dict(zip(query.split(","), [value.strip() for value in done.stdout.splitlines()[0].split(",")]))


def first_of_each(works):
    """One work of each op, format, shape and number of columns: what a figure of another program is of."""
    return list({(work.op, work.format, work.shape, work.n): work for work in reversed(works)}.values())[::-1]


def module_version(name):
    try:
        return importlib.import_module(name).__version__
    except (ImportError, AttributeError):
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ktjit", required=True, help="the program")
    parser.add_argument("--suite", default=HERE / "suites" / "h200.json", help="works and bars")
    parser.add_argument("--llama-cpp", default=HERE / "llama_cpp_h200.json", help="figures of llama.cpp")
    parser.add_argument("--only", default="", help="groups whose title, op and shape match this expression")
    parser.add_argument("--rounds", type=int, default=2, help="peers and ktjit in turn, so often (default: 2)")
    parser.add_argument("--samples", type=int, default=15, help="timed replays a round (default: 15)")
    parser.add_argument("--no-peers", action="store_true", help="ktjit alone")
    parser.add_argument("--json", help="also write all figures here")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.samples < 1:
        parser.error("--rounds and --samples are 1 and more")
    try:
        suite = load_suite(arguments.suite)
        llama_cpp = LlamaCpp(arguments.llama_cpp)
    except SuiteError as error:
        parser.error(str(error))
    groups = [group for group in suite.groups
              if re.search(arguments.only, f"{group.title} {group.op} {group.shape}")]
    if not groups:
        parser.error(f"no group of {arguments.suite} matches --only {arguments.only!r}")

    peers, missing = ([], [("the peers", "--no-peers")]) if arguments.no_peers else make_peers(arguments.samples)
    state_before = gpu_state()
    figures = measure_suite(suite, groups, peers, arguments)
    rows = make_rows(groups, figures, llama_cpp)
    print(table_text(rows))
    print(f"\nllama.cpp (file): {llama_cpp.source}")
    for name, reason in missing:
        print(f"not run: {name}: {reason}")
    for (work, who), reason in figures.not_run.items():
        print(f"not run: {who}, {work.name()} as {work.target}: {reason}")
    reads = [document["read_gbps"] for document in figures.documents if document["read_gbps"] > 0]
    if reads:
        print(f"a plain read of memory: {min(reads):.0f} to {max(reads):.0f} GB/s over {len(reads)} calls")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({
                "suite": suite.name,
                "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "gpu_before": state_before, "gpu_after": gpu_state(),
                "torch": module_version("torch"), "triton": module_version("triton"),
                "ktjit": figures.documents[0]["ktjit"] if figures.documents else None,
                "device_description": figures.documents[0]["device_description"] if figures.documents else None,
                "driver": figures.documents[0]["driver"] if figures.documents else None,
                "read_gbps": statistics.median(reads) if reads else 0,
                "llama_cpp": llama_cpp.source, "rounds": arguments.rounds,
                "table": rows, "results": list(figures.ours.values()),
                "peers": [{"work": work.name(), "op": work.op, "format": work.format, "rows": work.rows,
                           "cols": work.cols, "n": work.n, "peer": peer, "variant": variant,
                           "median_us": statistics.median(times), "samples_us": times,
                           "gbps": bytes_once / statistics.median(times) / 1e3}
                          for (work, peer, variant), (bytes_once, times) in figures.peers.items()]
                + [{"work": work.name(), "op": work.op, "format": work.format, "rows": work.rows, "cols": work.cols,
                    "n": work.n, "peer": "llama.cpp", "variant": "file", "gbps": llama_cpp.gbps(work)}
                   for work in first_of_each([work for group in groups for work in group.works])
                   if llama_cpp.gbps(work) is not None],
                "not_run": [{"work": work.name(), "target": work.target, "who": who, "reason": reason}
                            for (work, who), reason in figures.not_run.items()]
                + [{"who": name, "reason": reason} for name, reason in missing],
            }, file, indent=1)
            file.write("\n")
    return 0 if all(row["gbps"] is not None for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
