"""Suites of works with bars (bench/suites/*.json), the `ktjit bench` calls that measure them, and whether
the figures reach the bars. Knows no GPU and no peer: gpu_peers.py does. docs/BENCH.md has the fields.
"""

import dataclasses
import json
import subprocess

GROUP_FIELDS = {"title", "op", "shape", "bars", "n", "targets", "x_format", "y_format", "scale_block",
                "dependent_launch", "data", "arguments", "then"}
DEFAULT_FIELDS = {"n", "targets", "x_format", "y_format", "scale_block", "dependent_launch", "data"}
FP8_FORMATS = {"fp8_e4m3", "fp8_e5m2", "fp8_e4b15", "fp8_e4m3fnuz", "fp8_e5m2fnuz"}
PRODUCTS = {"matvec", "matmul", "moe_matvec", "moe_matmul"}


class SuiteError(Exception):
    """A suite or a table of figures that is not as it must be; says which file, where, and what is expected."""


@dataclasses.dataclass(frozen=True)
class Work:
    """One figure that is wanted: an op on one format and shape, as one target's code."""
    title: str
    op: str
    format: str
    rows: int
    cols: int
    n: int
    target: str
    x_format: str
    y_format: str
    scale_block: str  # of the FP8 formats; "" for others
    dependent_launch: bool
    bar: object = dataclasses.field(hash=False)  # a number of GB/s, {"times_llama_cpp": f}, {"times_one_column": {"2": f}}, or None
    then: tuple = ()  # shapes that are launched after this one, in turn: the figure is that of all of them

    @property
    def shape(self):
        return f"{self.rows}x{self.cols}"

    def name(self):
        columns = f" n {self.n}" if self.n != 1 else ""
        return f"{self.op} {self.format} {', then '.join((self.shape,) + self.then)}{columns}"


@dataclasses.dataclass(frozen=True)
class Group:
    """Works that one call of `ktjit bench` measures."""
    title: str
    op: str
    shape: str
    formats: tuple
    n: tuple
    targets: tuple
    x_format: str
    y_format: str
    scale_block: str
    dependent_launch: bool
    data: str
    arguments: tuple
    works: tuple
    then: tuple = ()  # shapes in turn after the first

    def command(self, ktjit, formats=None, samples=None):
        """The call, as a list of arguments; of `formats` alone, if given."""
        formats = self.formats if formats is None else formats
        command = [ktjit, "bench", "--op", self.op, "--format", ",".join(formats),
                   "--shape", ",".join((self.shape,) + self.then), "--y-format", self.y_format]
        if self.then:
            command.append("--in-turn")
        if self.op in PRODUCTS:
            command += ["--x-format", self.x_format, "--n", ",".join(str(n) for n in self.n)]
        if self.scale_block and any(format in FP8_FORMATS for format in formats):
            command += ["--scale-block", self.scale_block]
        for target in self.targets:
            command += ["--target", target]
        if self.dependent_launch:
            command.append("--dependent-launch")
        if self.data:
            command += ["--data", self.data]
        if samples:
            command += ["--samples", str(samples)]
        return command + list(self.arguments) + ["--json"]


@dataclasses.dataclass(frozen=True)
class Suite:
    name: str
    groups: tuple

    def works(self):
        return [work for group in self.groups for work in group.works]


def load_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise SuiteError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SuiteError(f"{path}: no JSON: {error}") from error


def parse_shape(text, where):
    rows, cross, cols = str(text).partition("x")
    if not cross or not rows.isdigit() or not cols.isdigit() or int(rows) < 1 or int(cols) < 1:
        raise SuiteError(f"{where}: shape is {text!r}, expected rows and columns such as \"4096x14336\"")
    return int(rows), int(cols)


def check_bar(bar, n, where):
    if isinstance(bar, (int, float)) and not isinstance(bar, bool) and bar > 0:
        return
    if isinstance(bar, dict) and len(bar) == 1:
        kind, value = next(iter(bar.items()))
        if kind == "times_llama_cpp" and isinstance(value, (int, float)) and value > 0:
            return
        if kind == "times_one_column" and isinstance(value, dict):
            missing = [columns for columns in n if columns != 1 and str(columns) not in value]
            if 1 in n and not missing:
                return
            raise SuiteError(f"{where}: times_one_column needs n 1 and a factor for each other n of {list(n)}")
    raise SuiteError(f"{where}: bar is {bar!r}, expected GB/s, {{\"times_llama_cpp\": factor}} or "
                     "{\"times_one_column\": {\"2\": factor}}")


def parse_group(entry, defaults, where):
    unknown = sorted(set(entry) - GROUP_FIELDS)
    if unknown:
        raise SuiteError(f"{where}: unknown field {unknown[0]!r}, the fields are {', '.join(sorted(GROUP_FIELDS))}")
    for field in ("title", "op", "shape", "bars"):
        if not entry.get(field):
            raise SuiteError(f"{where}: {field} is missing")
    fields = {**defaults, **entry}
    rows, cols = parse_shape(entry["shape"], where)
    n = tuple(fields.get("n", [1])) if entry["op"] in PRODUCTS else (1,)
    if not n or not all(isinstance(columns, int) and columns > 0 for columns in n):
        raise SuiteError(f"{where}: n is {fields.get('n')!r}, expected a list of positive numbers")
    common = {
        "title": entry["title"], "op": entry["op"], "x_format": fields.get("x_format", "f32"),
        "y_format": fields.get("y_format", "f32"), "dependent_launch": bool(fields.get("dependent_launch", False)),
    }
    targets = tuple(fields.get("targets", ["native"]))
    scale_block = fields.get("scale_block", "")
    then = tuple(entry.get("then", []))
    for shape in then:
        parse_shape(shape, f"{where}, then")
    if then and (len(entry["bars"]), len(n), len(targets)) != (1, 1, 1):
        raise SuiteError(f"{where}: shapes in turn are one sequence: one format, one n and one target")
    works = []
    for format, bar in entry["bars"].items():
        check_bar(bar, n, f"{where}, {format}")
        for columns in n:
            for target in targets:
                works.append(Work(format=format, rows=rows, cols=cols, n=columns, target=target, bar=bar, then=then,
                                  scale_block=scale_block if format in FP8_FORMATS else "", **common))
    return Group(shape=entry["shape"], formats=tuple(entry["bars"]), n=n, targets=targets,
                 scale_block=scale_block, data=fields.get("data", ""),
                 arguments=tuple(fields.get("arguments", [])), then=then, works=tuple(works), **common)


def load_suite(path):
    """Errors: SuiteError naming the file and the group."""
    document = load_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("groups"), list) or not document["groups"]:
        raise SuiteError(f"{path}: expected an object with a list \"groups\"")
    defaults = document.get("defaults", {})
    unknown = sorted(set(defaults) - DEFAULT_FIELDS)
    if unknown:
        raise SuiteError(f"{path}: unknown default {unknown[0]!r}, these can be given: {', '.join(sorted(DEFAULT_FIELDS))}")
    groups = [parse_group(entry, defaults, f"{path}: group {index + 1}")
              for index, entry in enumerate(document["groups"])]
    return Suite(document.get("name", str(path)), tuple(groups))


class LlamaCpp:
    """Figures of llama.cpp's kernels, measured in another run, from a file (bench/llama_cpp_h200.json)."""

    def __init__(self, path):
        self.document = load_json(path)
        if not isinstance(self.document, dict) or not isinstance(self.document.get("matvec"), dict):
            raise SuiteError(f"{path}: expected an object with \"matvec\": format, shape, figures")
        self.source = (f"{self.document.get('peer')} {self.document.get('commit')} "
                       f"({self.document.get('commit_date')}), measured {self.document.get('measured')}")

    def gbps(self, work):
        """Of the same format and shape with one column; None where it has no such figure."""
        if work.op != "matvec" or work.n != 1:
            return None
        figures = self.document["matvec"].get(work.format, {}).get(work.shape)
        return figures["gbps"] if figures else None


@dataclasses.dataclass
class Verdict:
    """A figure beside its bar. `met` is None where one of them is missing, and `reason` says why."""
    bar: str
    met: object
    reason: str = ""


def judge(work, ours, one_column, llama_cpp):
    """`ours`, `one_column`: results of `ktjit bench` for the work, and for the same with n = 1; None if not run."""
    if isinstance(work.bar, dict) and "times_one_column" in work.bar:
        if work.n == 1:
            return Verdict("", None)
        factor = work.bar["times_one_column"][str(work.n)]
        bar = f"{factor} x n 1"
        if ours is None or one_column is None:
            return Verdict(bar, None, "not run")
        return Verdict(bar, ours["median_us"] <= factor * one_column["median_us"])
    wanted = work.bar
    if isinstance(work.bar, dict):
        theirs = llama_cpp.gbps(work) if llama_cpp else None
        if theirs is None:
            return Verdict(f"{work.bar['times_llama_cpp']} x llama.cpp", None, "llama.cpp has no such figure")
        wanted = work.bar["times_llama_cpp"] * theirs
    if ours is None:
        return Verdict(f"{wanted:.0f}", None, "not run")
    return Verdict(f"{wanted:.0f}", ours["gbps"] >= wanted)


def matches(work, result, native_target):
    """Whether a result of `ktjit bench` is that of the work."""
    target = native_target if work.target == "native" else work.target
    return (result["op"] == work.op and result["format"] == work.format and result["rows"] == work.rows
            and result["cols"] == work.cols and result.get("n", 1) == work.n and result["target"] == target
            and result["dependent_launch"] == work.dependent_launch)


def results_of(work, document):
    """What a document of `ktjit bench` has of the work: results of its own, or the sequence that it begins."""
    own = [result for result in document["results"] if matches(work, result, document["native_target"])]
    if not work.then or not document.get("in_turn"):
        return [] if work.then else own
    sequence = document["in_turn"]
    problems = [check["problem"] for check in sequence.get("last", []) if check["problem"]]
    return [{**result, **sequence, "op": f"{work.op} in turn", "tflops": None,
             "last": {"problem": problems[0] if problems else ""}} for result in own]


def run_ktjit(command, timeout_s):
    """The document that a call prints. Errors: RuntimeError with what the program said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise RuntimeError(f"no program {command[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"took more than {timeout_s} s") from error
    if done.returncode not in (0, 1) or not done.stdout:
        lines = [line for line in done.stderr.strip().splitlines() if line]
        said = lines[-1] if lines else "nothing said"
        raise RuntimeError(f"exit code {done.returncode}: {said}")
    return json.loads(done.stdout)


def measure_group(group, ktjit, samples=None, timeout_s=600, run=run_ktjit):
    """The documents of a group, and why formats have none: one call for all, or, where that is refused, one for
    each format, so that one format that can't be measured leaves the others.
    Result: (documents, {format: reason}).
    """
    try:
        return [run(group.command(ktjit, samples=samples), timeout_s)], {}
    except RuntimeError as error:
        if len(group.formats) == 1:
            return [], {group.formats[0]: str(error)}
    documents, failed = [], {}
    for format in group.formats:
        try:
            documents.append(run(group.command(ktjit, formats=[format], samples=samples), timeout_s))
        except RuntimeError as error:
            failed[format] = str(error)
    return documents, failed
