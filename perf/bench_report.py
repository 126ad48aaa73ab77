#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the JSON files of make bench into one HTML page that needs no network.

    bench_report.py OUT.html BENCH.json [BENCH.json ...]

With two or more files the first is "before"; the others are shown beside it.
"""

import html
import json
import math
import sys

import svg_chart

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1060px; padding: 0 1em;
  color: #222; background: #fff }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2.2em; border-bottom: 1px solid #ddd }
svg text { font: 12px system-ui, sans-serif; fill: #444 } svg .title { font-weight: 600 }
svg[role=img] { width: 100%; max-width: 820px; display: block }
.grid { stroke: #e4e4e4 } .axis { stroke: #444 }
.legend { display: flex; flex-wrap: wrap; gap: .3em 1.4em; font-size: 13px; margin: .2em 0 1em 4.6em }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: .22em .7em; text-align: right; border-bottom: 1px solid #eee }
th:first-child, td:first-child { text-align: left }
.met { color: #00734f } .missed { color: #b03a00; font-weight: 600 } .note { color: #666; font-size: 13px }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 } svg text { fill: #bbb } .grid { stroke: #333 } .axis { stroke: #aaa }
  h2 { border-color: #444 } th, td { border-color: #333 } .met { color: #3fc796 } .missed { color: #ff8f5a }
  .note { color: #999 } }
"""

# What a higher value of a unit means: the rest are times and shares, where less is better.
MORE_IS_BETTER = {"calls/s", "x"}


class Run:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.data = json.load(file)
        self.results = {r["name"]: r for r in self.data["results"]}
        self.label = self.data["label"]

    def named(self, prefix):
        return [r for name, r in self.results.items() if name.startswith(prefix)]


def esc(value):
    return html.escape(str(value))


def number(value):
    if value is None:
        return "–"
    if abs(value) >= 10000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def series_name(run, runs, name):
    return name if len(runs) == 1 else f"{name} ({run.label})"


def header(runs):
    rows = []
    for run in runs:
        machine, versions = run.data["machine"], run.data["versions"]
        kind = "virtual machine" if machine["virtual"] else "machine"
        rows.append(
            f"<tr><td>{esc(run.label)}</td><td>{esc(machine['cpu'])}, {machine['cpus']} CPUs, {kind}; "
            f"{esc(machine['system'])}, Linux {esc(machine['kernel'])}</td>"
            f"<td>OTP {esc(versions['otp'])} ({esc(versions['emulator'])}), Python {esc(versions['python'])}, "
            f"cc {esc(versions['compiler'])}, commit {esc(versions['commit'])}</td>"
            f"<td>{esc(run.data['command'])}, {run.data['rounds']} rounds</td><td>{esc(run.data['date'])}</td></tr>"
        )
    return f"<table><tr><th>run</th><th>where</th><th>what</th><th>how</th><th>when</th></tr>{''.join(rows)}</table>"


def bars(runs):
    texts = list(dict.fromkeys(b["text"] for run in runs for b in run.data["bars"]))
    rows = []
    for text in texts:
        cells, limit = [], ""
        for run in runs:
            bar = next((b for b in run.data["bars"] if b["text"] == text), None)
            if bar is None or bar["met"] is None:
                cells.append("<td>–</td>")
                continue
            limit = f"{'≤' if bar['when'] == 'at_most' else '≥'} {number(bar['limit'])}"
            kind, mark = ("met", "✓") if bar["met"] else ("missed", "✗")
            cells.append(f'<td class="{kind}">{number(bar["value"])} {mark}</td>')
        if limit:
            rows.append(f"<tr><td>{esc(text)}</td><td>{limit}</td>{''.join(cells)}</tr>")
    heads = "".join(f"<th>{esc(run.label)}</th>" for run in runs)
    return f"<table><tr><th>what it has to reach</th><th>bar</th>{heads}</tr>{''.join(rows)}</table>"


def distribution(runs):
    """Percentiles on an axis that stretches the tail: the distance to 100 %, in decades."""

    def place(percentile):
        return -math.log10(1 - min(percentile, 99.95) / 100)

    series = []
    for dash, run in enumerate(runs):
        for colour, mode in enumerate(("worker", "owngil", "port")):
            result = run.results.get(f"latency {mode} median")
            if result is not None:
                points = [(p, v, None, None) for p, v in result["quantiles"] if v > 0]
                series.append((series_name(run, runs, mode), colour, dash, points))
        floor = run.results.get("floor of a call")
        if floor is not None:
            points = [(0, floor["median"], None, None), (99.9, floor["median"], None, None)]
            series.append((series_name(run, runs, "floor"), 6, dash, points))
    ticks = [(p, f"{p} %") for p in (0, 50, 90, 99, 99.9)]
    return svg_chart.lines(series, "calls at most as slow", "ns", ticks, log_x=False, x_map=place)


def throughput(runs):
    series = []
    for dash, run in enumerate(runs):
        names = list(dict.fromkeys(r["series"] for r in run.named("throughput") if "series" in r))
        for colour, name in enumerate(names):
            found = sorted((r for r in run.named("throughput") if r.get("series") == name), key=lambda r: r["callers"])
            points = [(r["callers"], r["median"], r["low"], r["high"]) for r in found]
            series.append((series_name(run, runs, name), colour, dash, points))
    ticks = [(n, str(n)) for n in (1, 8, 64, 256, 1000)]
    return svg_chart.lines(series, "callers", "calls per second", ticks)


def payload_bytes(runs):
    series = []
    for dash, run in enumerate(runs):
        found = [r for r in run.named("payload") if "iB" in r["name"]]
        ours = sorted((r for r in found if "port" not in r["name"]), key=lambda r: r["bytes"])
        ports = sorted((r for r in found if "port" in r["name"]), key=lambda r: r["bytes"])
        for colour, name, results in ((0, "ours", ours), (1, "port", ports)):
            points = [(r["bytes"], r["median"], r["low"], r["high"]) for r in results]
            series.append((series_name(run, runs, name), colour, dash, points))
        series.append((series_name(run, runs, "three copies"), 6, dash, [(r["bytes"], r["floor"], None, None) for r in ours]))
    ticks = [(1 << 16, "64 KiB"), (1 << 20, "1 MiB"), (1 << 24, "16 MiB")]
    return svg_chart.lines(series, "bytes there and back", "us", ticks)


def over_floor(run):
    rows = []
    for result in run.data["results"]:
        if "ratio" in result and result["unit"] in ("ns", "us") and "port" not in result["name"]:
            rows.append((result["name"], result["ratio"], f"{result['ratio']:.2f} × floor"))
    return svg_chart.ratios(rows)


def change(before, after):
    """Ratios of medians; grey where the runs' own spread is larger than the change."""
    rows = []
    for name, old in before.results.items():
        new = after.results.get(name)
        if new is None or not old["median"] or not new["median"] or "floor" in name.split()[:2]:
            continue
        ratio = new["median"] / old["median"]
        if new["low"] <= old["high"] and old["low"] <= new["high"]:
            word = "within spread"
        else:
            word = "better" if (ratio > 1) == (old["unit"] in MORE_IS_BETTER) else "worse"
        rows.append((name, ratio, f"{ratio:.2f} × {word}"))
    return svg_chart.ratios(rows)


def everything(run):
    rows = []
    for r in run.data["results"]:
        rows.append(
            f"<tr><td>{esc(r['name'])}</td><td>{esc(r['unit'])}</td><td>{number(r['median'])}</td>"
            f"<td>{number(r['low'])}</td><td>{number(r['high'])}</td><td>{100 * r['spread']:.1f} %</td>"
            f"<td>{number(r.get('floor'))}</td><td>{number(r.get('ratio'))}</td><td>{number(r.get('fairness'))}</td></tr>"
        )
    heads = "<tr><th>figure</th><th>unit</th><th>median</th><th>lowest</th><th>highest</th><th>spread</th>"
    heads += "<th>floor</th><th>ratio</th><th>slowest / mean</th></tr>"
    return f"<table>{heads}{''.join(rows)}</table>"


def page(runs):
    parts = [("The runs", header(runs)), ("Bars", bars(runs))]
    if len(runs) > 1:
        for run in runs[1:]:
            parts.append((f"{runs[0].label} → {run.label}", change(runs[0], run)))
    parts += [
        ("Latency of one caller, warm", distribution(runs)),
        ("Throughput against callers", throughput(runs)),
        ("Bytes there and back", payload_bytes(runs)),
    ]
    for run in runs:
        parts.append((series_name(run, runs, "Times over their floors"), over_floor(run)))
    for run in runs:
        parts.append((series_name(run, runs, "All figures"), everything(run)))
    body = "".join(f"<h2>{esc(title)}</h2>{content}" for title, content in parts if content)
    note = (
        "Medians of the rounds; whiskers and “lowest, highest” are the extreme rounds. A floor was measured in the "
        "same run, in turns with the figure; ratios are taken within a round."
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>erlang_python: measurements</title><style>{STYLE}</style>"
        f'<h1>erlang_python: measurements</h1><p class="note">{note}</p>{body}</html>\n'
    )


def main(argv):
    if len(argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    with open(argv[1], "w", encoding="utf-8") as file:
        file.write(page([Run(path) for path in argv[2:]]))
    print(f"written: {argv[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
